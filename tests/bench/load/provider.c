// A mock provider of OpenAI's chat completions: one epoll loop that answers at once, so that it is never what limits.
// A streamed answer has CHUNKS words, each written by itself. It serves whoever connects until it is ended.
// usage: provider PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNKS = 100, MOST_CONNECTIONS = 4096, MOST_BYTES = 1 << 22 };
#define CHUNK "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1714000000,\"model\":\"llama-3.3-70b-versatile\",\"choices\":"
#define USAGE "\"usage\":{\"prompt_tokens\":15,\"completion_tokens\":29,\"total_tokens\":44}"
static const char WHOLE[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1714000000,\"model\":\"llama-3.3-70b-versatile\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The capital of France is Paris. It has been "
    "the capital for most of the time since the late tenth century, and lies on the Seine.\"},\"logprobs\":null,"
    "\"finish_reason\":\"stop\"}]," USAGE "}";

typedef struct {
  char *in, *out;  // what came of a request, and what could not be written of an answer yet
  size_t in_len, out_len, out_at;
} Connection;

static Connection connections[MOST_CONNECTIONS];
static int loop;

static void watch(int fd, int operation, unsigned events) {
  struct epoll_event event = {events, {.fd = fd}};
  epoll_ctl(loop, operation, fd, &event);
}

static void drop(int fd) {
  free(connections[fd].in);
  free(connections[fd].out);
  memset(&connections[fd], 0, sizeof(Connection));
  close(fd);
}

static void put(int fd, const char *data, size_t len) {
  Connection *c = &connections[fd];
  if (!c->out_len) {
    ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
    if (sent == (ssize_t)len || (sent < 0 && errno != EAGAIN)) return;  // a broken connection is met by the next read
    if (sent > 0) data += sent, len -= sent;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
  }
  c->out = realloc(c->out, c->out_len + len);
  memcpy(c->out + c->out_len, data, len);
  c->out_len += len;
}

static void go_on_writing(int fd) {
  Connection *c = &connections[fd];
  ssize_t sent = send(fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
  if (sent > 0) c->out_at += sent;
  if (c->out_at < c->out_len) return;
  free(c->out);
  c->out = NULL;
  c->out_len = c->out_at = 0;
  watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

static void answer_whole(int fd) {
  char answer[2048];
  int len = snprintf(answer, sizeof answer,
                     "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-ratelimit-limit-requests: 14400\r\n"
                     "x-ratelimit-remaining-requests: 14000\r\nx-ratelimit-reset-requests: 6s\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(WHOLE), WHOLE);
  put(fd, answer, len);
}

static void put_event(int fd, const char *event) {
  char chunk[1024];
  put(fd, chunk, snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", strlen(event), event));
}

static void answer_streamed(int fd) {
  static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  char event[512];
  put(fd, HEAD, strlen(HEAD));
  put_event(fd, "data: " CHUNK "[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
  for (int i = 1; i <= CHUNKS; i++) {
    snprintf(event, sizeof event, "data: " CHUNK "[{\"index\":0,\"delta\":{\"content\":\" word%d\"},\"finish_reason\":null}]}\n\n", i);
    put_event(fd, event);
  }
  put_event(fd, "data: " CHUNK "[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]," USAGE "}\n\ndata: [DONE]\n\n");
  put(fd, "0\r\n\r\n", 5);
}

static size_t content_length(const char *head, const char *end) {
  static const char NAME[] = "\ncontent-length:";
  for (const char *at = head; at < end; at++)
    if (!strncasecmp(at, NAME, strlen(NAME))) return strtoul(at + strlen(NAME), NULL, 10);
  return 0;
}

static void answer_all(int fd) {
  Connection *c = &connections[fd];
  for (;;) {
    c->in[c->in_len] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return;
    char *body = end + 4;
    size_t body_len = content_length(c->in, end), whole = body - c->in + body_len;
    if (c->in_len < whole) return;
    if (memmem(body, body_len, "\"stream\":true", 13) || memmem(body, body_len, "\"stream\": true", 14))
      answer_streamed(fd);
    else
      answer_whole(fd);
    memmove(c->in, c->in + whole, c->in_len -= whole);
  }
}

static void read_from(int fd) {
  Connection *c = &connections[fd];
  ssize_t got = recv(fd, c->in + c->in_len, MOST_BYTES - c->in_len, 0);
  if (got > 0) {
    c->in_len += got;
    answer_all(fd);
  } else if (got == 0 || errno != EAGAIN) {
    drop(fd);
  }
}

static void accept_from(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MOST_CONNECTIONS) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[fd].in = malloc(MOST_BYTES + 1);
    watch(fd, EPOLL_CTL_ADD, EPOLLIN);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  signal(SIGPIPE, SIG_IGN);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1024)) return perror("bind"), 1;
  loop = epoll_create1(0);
  watch(listener, EPOLL_CTL_ADD, EPOLLIN);
  struct epoll_event events[512];
  for (;;) {
    int count = epoll_wait(loop, events, 512, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        accept_from(listener);
        continue;
      }
      if (events[i].events & EPOLLOUT && connections[fd].out_len) go_on_writing(fd);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_from(fd);
    }
  }
}

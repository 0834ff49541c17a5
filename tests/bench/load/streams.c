// A load of streamed answers: so many connections on the loopback interface, each of which sends the same request again and
// again for so many seconds, and then reads its last answer to the end, for PATIENCE_S at most. Prints JSON.
// usage: streams PORT FILE CONNECTIONS SECONDS        FILE holds the request as it is sent, head and body
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TAIL = 6, READ = 1 << 16, PATIENCE_S = 10 };  // TAIL: a byte less than what is looked for, so nothing is found twice
static const char EVENT[] = "data: {", END[] = "0\r\n\r\n", OK[] = "HTTP/1.1 200";

typedef struct {
  int fd, sent, bad;
  size_t events, tail_len;
  char tail[TAIL];  // the last bytes of the read before
} Connection;

static struct sockaddr_in address;
static int loop, open_connections;
static char request[1 << 16];
static size_t request_len, answers, failures, events;
static double ends_at;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void watch(Connection *c, int operation, unsigned what) {
  struct epoll_event event = {what, {.ptr = c}};
  epoll_ctl(loop, operation, c->fd, &event);
}

static void dial(Connection *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  connect(c->fd, (void *)&address, sizeof address);
  watch(c, EPOLL_CTL_ADD, EPOLLOUT);
  open_connections++;
}

// The next request, while there is time: on the same connection, or on a new one.
static void again(Connection *c, int stays) {
  int fd = c->fd, goes_on = now() < ends_at;
  memset(c, 0, sizeof *c);
  c->fd = fd;
  if (stays && goes_on) return watch(c, EPOLL_CTL_MOD, EPOLLOUT);
  close(fd);
  open_connections--;
  if (goes_on) dial(c);
}

static void fail(Connection *c) {
  failures++;
  again(c, 0);
}

static void ask(Connection *c) {
  if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len) return fail(c);
  c->sent = 1;
  watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void hear(Connection *c) {
  static char buffer[TAIL + READ];
  memcpy(buffer, c->tail, c->tail_len);
  ssize_t got = recv(c->fd, buffer + c->tail_len, READ, 0);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return fail(c);
  size_t len = c->tail_len + got, end = strlen(END);
  if (!c->events && !c->tail_len) c->bad = len < strlen(OK) || memcmp(buffer, OK, strlen(OK));
  if (c->bad) return fail(c);
  for (char *at = buffer; (at = memmem(at, buffer + len - at, EVENT, strlen(EVENT))); at++) c->events++;
  if (len >= end && !memcmp(buffer + len - end, END, end)) {
    answers++;
    events += c->events;
    return again(c, 1);
  }
  c->tail_len = len < TAIL ? len : TAIL;
  memcpy(c->tail, buffer + len - c->tail_len, c->tail_len);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  signal(SIGPIPE, SIG_IGN);
  FILE *file = fopen(argv[2], "rb");
  if (!file) return perror(argv[2]), 1;
  request_len = fread(request, 1, sizeof request, file);
  address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  loop = epoll_create1(0);
  int count = atoi(argv[3]);
  Connection *all = calloc(count, sizeof(Connection));
  double began = now();
  ends_at = began + atof(argv[4]);
  for (int i = 0; i < count; i++) dial(&all[i]);
  struct epoll_event ready[256];
  while (open_connections && now() < ends_at + PATIENCE_S) {
    int found = epoll_wait(loop, ready, 256, 100);
    for (int i = 0; i < found; i++) {
      Connection *c = ready[i].data.ptr;
      if (c->sent)
        hear(c);
      else
        ask(c);
    }
  }
  printf("{\"answers\": %zu, \"failures\": %zu, \"events_per_s\": %.0f}\n", answers, failures + open_connections, events / (now() - began));
}

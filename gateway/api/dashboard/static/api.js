// The public JSON endpoints, asked with the key that this tab holds.

const KEEPS = "gateway-key"; // in the tab's own storage: it is gone when the tab is

let key = sessionStorage.getItem(KEEPS) ?? "";

export class Refused extends Error {} // the key is none

export const hasKey = () => key !== "";

export function useKey(value) {
  key = value.trim();
  if (key) sessionStorage.setItem(KEEPS, key);
  else sessionStorage.removeItem(KEEPS);
}

export async function get(path) {
  const answer = await fetch(path, { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(10_000) });
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

// Send a chat and give its chunks as they come; `began` is told the answer's headers.
export async function* streamChat(body, began, signal) {
  const answer = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  began(answer.headers);
  if (!answer.ok) throw await failure(answer);
  let rest = "";
  for await (const text of textOf(answer.body)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk;
    }
  }
}

async function* textOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

function headers() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function failure(answer) {
  const body = await answer.json().catch(() => ({}));
  const message = body.error?.message ?? `The gateway answered with status ${answer.status}.`;
  return answer.status === 401 ? new Refused(message) : new Error(message);
}

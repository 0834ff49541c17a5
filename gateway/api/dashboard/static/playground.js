// One question to one model: its answer as it is written, and the trail that it took.

import { streamChat } from "./api.js";
import { byId, el, show } from "./dom.js";
import { milliseconds } from "./format.js";
import { trail } from "./sections.js";

let running = null;

export function setUp() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else ask();
  });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
  });
}

async function ask() {
  running = new AbortController();
  const began = performance.now();
  const answer = byId("answer");
  const told = { trail: "", firstMs: null, tokens: null };
  answer.replaceChildren();
  answer.setAttribute("aria-busy", "true");
  byId("send").textContent = "Stop";
  report(told);
  try {
    const body = { model: byId("model").value.trim() || "auto", messages: [{ role: "user", content: byId("prompt").value }] };
    const onHeaders = (headers) => {
      told.trail = headers.get("x-gateway-trail") ?? "";
      report(told);
    };
    for await (const chunk of streamChat(body, onHeaders, running.signal)) {
      const delta = chunk.choices?.[0]?.delta ?? {};
      if (told.firstMs === null && (delta.content || delta.reasoning_content)) told.firstMs = performance.now() - began;
      if (delta.reasoning_content) write(answer, "thought", delta.reasoning_content);
      if (delta.content) write(answer, "said", delta.content);
      if (chunk.usage) told.tokens = chunk.usage.total_tokens;
      if (chunk.x_gateway?.trail) told.trail = chunk.x_gateway.trail;
    }
  } catch (error) {
    if (error.name !== "AbortError") answer.append(el("p", { class: "error", role: "alert", text: error.message }));
  }
  running = null;
  answer.setAttribute("aria-busy", "false");
  byId("send").textContent = "Send";
  report({ ...told, tookMs: performance.now() - began });
}

// Thoughts and words come in pieces: each kind goes on in its own element for as long as it is not interrupted.
function write(answer, kind, text) {
  if (answer.lastElementChild?.className !== kind) answer.append(el("span", { class: kind }));
  answer.lastElementChild.append(text);
}

function report({ trail: text, firstMs, tookMs, tokens }) {
  const facts = [
    firstMs !== null && `first token after ${milliseconds(firstMs)}`,
    tookMs && `took ${milliseconds(tookMs)}`,
    tokens !== null && `${tokens} tokens`,
  ].filter(Boolean);
  show(byId("took"), trail(text), el("span", { text: facts.join(", ") }));
}

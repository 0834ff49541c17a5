// The Vercel AI SDK: `@ai-sdk/openai-compatible` over chat completions, and `@ai-sdk/openai` over the Responses API.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { EMBEDDING, KEY, MODEL, RETRIED, URL, check, refusal, run } from "./harness.mjs";

const options = { baseURL: `${URL}/v1`, apiKey: KEY };
const compatible = createOpenAICompatible({ name: "gateway", supportsStructuredOutputs: true, includeUsage: true, ...options });
const openai = createOpenAI(options);
const prompt = "Say hello";
const weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async () => "Sunny",
});

async function textOf(model) {
  const { textStream, finishReason } = streamText({ model, prompt });
  let text = "";
  for await (const piece of textStream) text += piece;
  check((await finishReason) === "stop", "it ends");
  return text;
}

async function useTool(model) {
  const answer = await generateText({ model, prompt: "The weather in Paris?", tools: { get_weather: weather }, stopWhen: stepCountIs(3) });
  check(answer.text.includes("Sunny") && answer.steps.length === 2, "the result is used");
}

await run({
  async whole() {
    const answer = await generateText({ model: compatible(MODEL), prompt });
    check(answer.text.includes("hello") && answer.usage.totalTokens > 0, "it answers");
  },
  async stream() {
    check((await textOf(compatible(MODEL))).includes("hello"), "it answers");
  },
  async tools() {
    await useTool(compatible(MODEL));
  },
  async structured() {
    const schema = z.object({ name: z.string(), people: z.number() });
    const { object } = await generateObject({ model: compatible(MODEL), schema, prompt: "Paris" });
    check(typeof object.name === "string", "it fits");
  },
  async embeddings() {
    const { embeddings } = await embedMany({ model: compatible.textEmbeddingModel(EMBEDDING), values: ["one", "two"] });
    check(embeddings.length === 2, "two vectors");
  },
  async responses_whole() {
    check((await generateText({ model: openai(MODEL), prompt })).text.includes("hello"), "it answers");
  },
  async responses_stream() {
    check((await textOf(openai(MODEL))).includes("hello"), "it answers");
  },
  async responses_tools() {
    await useTool(openai(MODEL));
  },
  async error() {
    const error = await refusal(() => generateText({ model: compatible("no-such-model"), prompt }));
    check(error.statusCode === 404 && error.message.includes("does not exist"), "not found");
  },
  async retry() {
    check((await generateText({ model: compatible(RETRIED), prompt })).text, "it answers in the end");
  },
});

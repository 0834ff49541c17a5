// The official `openai` package for Node.

import OpenAI from "openai";
import { EMBEDDING, KEY, MODEL, RETRIED, URL, check, refusal, run } from "./harness.mjs";

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY });
const hello = [{ role: "user", content: "Say hello" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };
const weather = { type: "function", function: { name: "get_weather", description: "The weather in a city.", parameters } };

await run({
  async whole() {
    const answer = await client.chat.completions.create({ model: MODEL, messages: hello });
    check(answer.choices[0].message.content.includes("hello"), "it answers");
  },
  async stream() {
    const stream = client.chat.completions.stream({ model: MODEL, messages: hello });
    const final = await stream.finalChatCompletion();
    check(final.choices[0].message.content.includes("hello") && final.choices[0].finish_reason === "stop", "it ends");
  },
  async tools() {
    const runner = client.chat.completions.runTools({
      model: MODEL,
      stream: true,
      messages: [{ role: "user", content: "The weather in Paris?" }],
      tools: [{ ...weather, function: { ...weather.function, parse: JSON.parse, function: () => "Sunny" } }],
    });
    check((await runner.finalContent()).includes("Sunny"), "the result is used");
  },
  async structured() {
    const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false };
    const format = { type: "json_schema", json_schema: { name: "city", strict: true, schema } };
    const answer = await client.chat.completions.create({ model: MODEL, messages: hello, response_format: format });
    check("name" in JSON.parse(answer.choices[0].message.content), "it fits");
  },
  async responses() {
    const stream = client.responses.stream({ model: MODEL, input: "Say hello" });
    const final = await stream.finalResponse();
    check(final.output_text.includes("hello") && final.status === "completed", "it completes");
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: EMBEDDING, input: ["one", "two"] });
    check(answer.data.length === 2 && answer.data[0].embedding.length > 1, "two vectors");
  },
  async error() {
    const error = await refusal(() => client.chat.completions.create({ model: "no-such-model", messages: hello }));
    check(error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && error.requestID.startsWith("req_"), "not found");
  },
  async retry() {
    const answer = await client.chat.completions.create({ model: RETRIED, messages: hello });
    check(answer.choices[0].message.content, "it answers in the end");
  },
});

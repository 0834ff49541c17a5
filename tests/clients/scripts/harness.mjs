// What the scripts of Node clients share: see harness.py.

export const URL = process.env.GATEWAY_URL;
export const KEY = process.env.GATEWAY_KEY;
export const MODEL = "any-model";
export const RETRIED = "cerebras/gpt-oss-120b";
export const EMBEDDING = "any-embedding";

export function check(holds, what) {
  if (!holds) throw new Error(`not so: ${what}`);
}

export async function refusal(ask) {
  try {
    await ask();
  } catch (error) {
    return error;
  }
  throw new Error("no error");
}

export async function run(scenarios) {
  for (const [scenario, ask] of Object.entries(scenarios)) {
    let problem = null;
    try {
      await ask();
    } catch (error) {
      problem = error.stack ?? String(error);
    }
    console.log(JSON.stringify({ scenario, problem }));
  }
}

// The page: asks for a key, then for the figures, again and again while somebody looks.

import { Refused, get, hasKey, useKey } from "./api.js";
import { byId, el, show } from "./dom.js";
import { secondOf } from "./format.js";
import * as playground from "./playground.js";
import { showCandidates, showProviders, showQuotas, showRequests, showTraffic, showUsage, tick } from "./sections.js";

const REFRESH_MS = 5000;
const EVERY_FOURTH = 4; // what changes slowly is asked for less often

let turn = 0;
let refreshing = false;
let models = "";

async function refresh() {
  if (refreshing || document.hidden || !document.body.classList.contains("open")) return;
  refreshing = true;
  try {
    await (turn++ % EVERY_FOURTH === 0 ? Promise.all([showLive(), showSlow()]) : showLive());
    tell(`Live, ${secondOf(new Date())}`, "well");
  } catch (error) {
    if (error instanceof Refused) signOut(error.message);
    else tell(`Not up to date: ${error.message}`, "out");
  } finally {
    refreshing = false;
  }
}

async function showLive() {
  const asked = byId("route").value.trim() || "auto";
  const [traffic, stats, all, requests, quota] = await Promise.all([
    get("/v1/analytics?days=1&minutes=60"),
    get("/v1/stats/providers"),
    get("/v1/routing/status?model=auto"),
    get("/v1/requests?limit=50"),
    get("/v1/quota"),
  ]);
  showTraffic(traffic.minutes);
  showProviders(stats.stats, all.candidates, traffic.minutes);
  showRequests(requests.data);
  showQuotas(quota.data);
  await showRoute(asked, all);
}

// A name that nobody has is the typist's business, not an outage.
async function showRoute(asked, all) {
  try {
    const status = asked === "auto" ? all : await get(`/v1/routing/status?model=${encodeURIComponent(asked)}`);
    showCandidates(status.candidates);
  } catch (error) {
    if (error instanceof Refused) throw error;
    show(byId("candidates"), el("p", { class: "empty", text: error.message }));
  }
}

async function showSlow() {
  const [listed, usage] = await Promise.all([get("/v1/models?include=auto"), get("/v1/analytics?days=7")]);
  showUsage(usage);
  const names = listed.data.map((model) => model.id);
  if (names.join() === models) return; // a list that is made anew closes under the hand that chooses from it
  models = names.join();
  show(byId("names"), names.map((value) => el("option", { value })));
}

function tell(text, kind) {
  byId("status").textContent = text;
  byId("status").className = kind;
}

function signIn() {
  document.body.classList.add("open");
  byId("problem").textContent = "";
  turn = 0;
  refresh();
}

function signOut(problem) {
  useKey("");
  document.body.classList.remove("open");
  byId("problem").textContent = problem ?? "";
  tell("", "");
  byId("key").focus();
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value);
  byId("key").value = "";
  signIn();
});
byId("leave").addEventListener("click", () => signOut());
byId("route").addEventListener("change", () => refresh());
document.addEventListener("visibilitychange", refresh);
playground.setUp();
setInterval(refresh, REFRESH_MS);
setInterval(tick, 1000);
if (hasKey()) signIn();
else byId("key").focus();

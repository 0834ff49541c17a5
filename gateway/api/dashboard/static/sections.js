// What each section shows of the JSON that it is given. Nothing here asks the gateway, and nothing keeps a state.

import { bars, line } from "./charts.js";
import { byId, el, show } from "./dom.js";
import { NOTHING, duration, instant, milliseconds, minuteOf, momentOf, number, percent, secondOf } from "./format.js";

const LIMITS = { rpm: "requests a minute", rpd: "requests a day", tpm: "tokens a minute", tpd: "tokens a day", neurons: "neurons a day" };
const REASONS = {
  cooldown: "resting after failures",
  probing: "another request tries whether it is back",
  quota: "quota used up",
  quota_too_small: "the request is larger than its quota",
};
const GOOD_SHARE = 0.98;

const sum = (items, value) => items.reduce((total, item) => total + value(item), 0);
const nothingYet = (text) => el("p", { class: "empty", text });

// --- the last hour ---------------------------------------------------------------------------------------------------

export function showTraffic(minutes) {
  const requests = sum(minutes, (minute) => minute.requests);
  const successful = sum(minutes, (minute) => minute.successful);
  const known = minutes.filter((minute) => minute.ttft_ms_p50 !== null);
  const latest = known.length ? known[known.length - 1].ttft_ms_p50 : null;
  show(
    byId("tiles"),
    tile("Requests", number(requests), "in the last hour"),
    tile("Answered", percent(successful, requests), `${number(requests - successful)} failed`),
    tile("First token", milliseconds(latest), "median of the last minute with streams"),
    tile("Tokens", number(sum(minutes, (minute) => minute.tokens.total)), "in the last hour"),
  );
  const tell = (minute) => `${minuteOf(instant(minute.t))}: ${minute.requests} requests, ${minute.requests - minute.successful} failed`;
  const failed = (minute) => minute.requests - minute.successful;
  show(
    byId("traffic"),
    figure("Requests a minute", bars(minutes, [["ok", (minute) => minute.successful], ["failed", failed]], "Requests a minute", tell), minutes),
    figure("Time to first token", line(minutes.map((minute) => minute.ttft_ms_p50), "Median time to first token by minute"), minutes),
  );
}

function tile(name, value, note) {
  return el("div", { class: "tile" }, el("span", { class: "name", text: name }), el("b", { text: value }), el("small", { text: note }));
}

function figure(title, chart, minutes) {
  const ends = [minutes[0], minutes[minutes.length - 1]].filter(Boolean).map((minute) => minuteOf(instant(minute.t)));
  const axis = el("div", { class: "axis", "aria-hidden": "true" }, ends.map((text) => el("span", { text })));
  return el("figure", {}, el("figcaption", { text: title }), chart, axis);
}

// --- providers -------------------------------------------------------------------------------------------------------

export function showProviders(stats, candidates, minutes) {
  const all = sum(minutes, (minute) => sum(Object.values(minute.providers), (count) => count));
  const cards = stats.map((stat) => {
    const own = candidates.filter((candidate) => candidate.provider === stat.provider);
    const counts = minutes.map((minute) => minute.providers[stat.provider] ?? 0);
    return providerCard(stat, stateOf(stat, own), counts, all);
  });
  show(byId("providers"), cards.length ? cards : nothingYet("No provider can be used. Set the key of one, as the README says."));
}

function stateOf(stat, candidates) {
  const out = candidates.filter((candidate) => candidate.out_because && candidate.until);
  const soonest = out.map((candidate) => candidate.until).sort()[0] ?? null;
  if (stat.total_models && stat.active_models === 0) {
    const quota = out.length > 0 && out.every((candidate) => candidate.out_because === "quota");
    return { kind: "out", text: quota ? "Quota used up" : "Resting", until: soonest };
  }
  if (stat.models_in_cooldown) return { kind: "part", text: `${stat.models_in_cooldown} of ${stat.total_models} models rest`, until: soonest };
  const weak = stat.success_rate !== null && stat.success_rate < GOOD_SHARE;
  return weak ? { kind: "part", text: "Fails now and then", until: null } : { kind: "well", text: "Well", until: null };
}

function providerCard(stat, state, counts, all) {
  const requests = sum(counts, (count) => count);
  const items = counts.map((count) => ({ count }));
  const facts = [
    ["Share of traffic", percent(requests, all)],
    ["Answered, 7 days", stat.success_rate === null ? NOTHING : percent(stat.success_rate, 1)],
    ["Throttled, 7 days", number(stat.throttle_count)],
    ["A whole answer", milliseconds(stat.avg_latency_ms)],
    ["Models", `${stat.active_models} of ${stat.total_models}`],
  ];
  return el(
    "article",
    { class: `card ${state.kind}` },
    el("header", {}, el("h3", { text: stat.provider }), el("span", { class: "state", text: state.text }), countdown(state.until)),
    bars(items, [["ok", (item) => item.count]], `Requests to ${stat.provider} by minute`, (item) => `${item.count} requests`),
    el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: value })))),
  );
}

// A time that counts down each second, see `tick`.
function countdown(until) {
  return until && el("time", { class: "countdown", datetime: until, text: left(until) });
}

function left(until) {
  const seconds = (instant(until) - Date.now()) / 1000;
  return seconds > 0 ? `for ${duration(seconds)}` : "any moment";
}

export function tick() {
  for (const time of document.querySelectorAll("time.countdown")) time.textContent = left(time.dateTime);
}

// --- quotas ----------------------------------------------------------------------------------------------------------

export function showQuotas(quotas) {
  const byProvider = Map.groupBy?.(quotas, (quota) => quota.provider) ?? group(quotas);
  const open = new Set([...document.querySelectorAll("#quotas details[open]")].map((details) => details.dataset.provider));
  const groups = [...byProvider].map(([provider, own]) => {
    const tightest = Math.min(...own.map((quota) => (quota.limit ? quota.remaining / quota.limit : 0)));
    const isOpen = open.has(provider) || (tightest < 0.5 && !byId("quotas").dataset.seen);
    const used = own.filter((quota) => quota.used > 0).length;
    const note = used ? `${used} of ${own.length} in use, the tightest has ${percent(tightest, 1)} left` : `${own.length}, none in use`;
    const sorted = [...own].sort((a, b) => b.used / (b.limit || 1) - a.used / (a.limit || 1));
    return el(
      "details",
      { "data-provider": provider, open: isOpen },
      el("summary", {}, el("b", { text: provider }), " ", el("span", { text: note })),
      sorted.map(quotaRow),
    );
  });
  show(byId("quotas"), groups.length ? groups : nothingYet("No model has a quota."));
  byId("quotas").dataset.seen = "yes";
}

function group(quotas) {
  const groups = new Map();
  for (const quota of quotas) groups.set(quota.provider, [...(groups.get(quota.provider) ?? []), quota]);
  return groups;
}

function quotaRow(quota) {
  const share = quota.limit ? quota.used / quota.limit : 1;
  const resets = instant(quota.resets_at);
  const runsOut = instant(quota.exhausted_at);
  const who = quota.model ?? "all models of the account";
  const name = quota.credential > 1 ? `${who}, key ${quota.credential}` : who;
  const notes = [resets && `back from ${momentOf(resets)}`, runsOut && (quota.remaining ? `runs out ${momentOf(runsOut)}` : "used up")];
  return el(
    "div",
    { class: "quota" },
    el("span", { class: "name", text: name }),
    el("span", { class: "limit", text: `${number(quota.used)} of ${number(quota.limit)} ${LIMITS[quota.window] ?? quota.window}` }),
    el("meter", { min: 0, max: 1, low: 0.5, high: 0.8, optimum: 0, value: Math.min(1, share), "aria-label": `${name}, ${quota.window}` }),
    el("span", { class: runsOut ? "note warning" : "note", text: notes.filter(Boolean).join(", ") || "untouched" }),
  );
}

// --- who is next -----------------------------------------------------------------------------------------------------

export function showCandidates(candidates) {
  if (!candidates.length) return show(byId("candidates"), nothingYet("Nobody can serve this."));
  const names = [...new Set(candidates.flatMap((candidate) => Object.keys(candidate.terms)))];
  const head = ["", "Model", "Score", ...names, "State"].map((text) => el("th", { scope: "col", text }));
  const rows = candidates.map((candidate) =>
    el(
      "tr",
      { class: candidate.rank === null ? "out" : null },
      el("td", { text: candidate.rank ?? NOTHING }),
      el("th", { scope: "row" }, el("span", { class: "provider", text: candidate.provider }), ` ${candidate.model}`),
      el("td", { text: candidate.score === null ? NOTHING : candidate.score.toFixed(3) }),
      names.map((name) => term(candidate.terms[name])),
      el("td", {}, REASONS[candidate.out_because] ?? candidate.out_because ?? (candidate.probe ? "may be back" : "ready"), " ", countdown(candidate.until)),
    ),
  );
  return show(byId("candidates"), el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

function term(value) {
  if (value === undefined) return el("td", { text: NOTHING });
  return el("td", {}, el("span", { text: value.toFixed(3) }));
}

// --- requests, projects and keys -------------------------------------------------------------------------------------

export function showRequests(requests) {
  if (!requests.length) return show(byId("requests"), nothingYet("Nobody has asked a model yet."));
  const head = ["Time", "Status", "Asked for", "Trail", "First token", "Took", "Tokens", "Key", "Project"].map((text) => el("th", { scope: "col", text }));
  const rows = requests.map((request) =>
    el(
      "tr",
      { class: request.status >= 400 ? "bad" : null },
      el("td", { text: secondOf(instant(request.t)), title: request.id }),
      el("td", { text: request.status }),
      el("td", { text: request.model ?? NOTHING }),
      el("td", {}, trail(request.trail)),
      el("td", { text: milliseconds(request.ttft_ms) }),
      el("td", { text: milliseconds(request.duration_ms) }),
      el("td", { text: number(request.tokens?.total ?? request.tokens) }),
      el("td", { text: request.key ?? NOTHING }),
      el("td", { text: request.project_id ?? NOTHING }),
    ),
  );
  return show(byId("requests"), el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
}

// Each attempt, and how it ended: what stands after the last colon.
export function trail(text) {
  return (text ?? "")
    .split(" ")
    .filter(Boolean)
    .map((attempt) => {
      const end = attempt.slice(attempt.lastIndexOf(":") + 1);
      return el("span", { class: end === "ok" ? "attempt ok" : "attempt", text: attempt });
    });
}

export function showUsage(analytics) {
  show(byId("projects"), usageTable(analytics.projects, "Project", "No request named a project."));
  show(byId("keys"), usageTable(analytics.keys, "Key", "No key was used yet."));
}

function usageTable(entries, title, empty) {
  const names = Object.keys(entries);
  if (!names.length) return nothingYet(empty);
  const head = [title, "Requests", "Answered", "Tokens"].map((text) => el("th", { scope: "col", text }));
  const rows = names.map((name) => {
    const { requests, successful, tokens } = entries[name];
    const values = [number(requests), percent(successful, requests), number(tokens.total)];
    return el("tr", {}, el("th", { scope: "row", text: name }), values.map((text) => el("td", { text })));
  });
  return el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
}

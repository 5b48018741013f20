// The page of `hotreload run --ui`: keeps what the server tells in `told`, and shows it. No library, no build.
// Every text comes from somewhere else (a compiler, a file, a thread's name): it is only ever inserted as text.
"use strict";

const STAGES = ["build", "diff", "link", "stage", "commit"];
const OUTCOMES = { live: "live", base: "base", nothing: "nothing to do", refused: "refused", build_failed: "build failed" };
const TRIGGERS = { save: "a save", start: "found at the start", page: "this page" };
const THEMES = ["auto", "light", "dark"];
const ROWS = 200;
const BARS = 40;
const PLOT_HEIGHT = 150;

const told = { program: "", modules: new Map(), entries: new Map(), processes: [], stragglers: new Map() };
const rows = new Map(); // number of an entry → its <li>
const diffs = new Map(); // number of an entry → what the server said of its sources
let open = null; // number of the entry that is shown beside the time line
let against = "previous"; // or "base"
let pending = null; // what the open dialog asks about

const $ = (id) => document.getElementById(id);

const drawn = new Map();

/** Whether something looks different from when it was last drawn: what a person reads or selects stays in place. */
function isNews(key, ...values) {
  const looks = JSON.stringify(values);
  if (drawn.get(key) === looks) return false;
  drawn.set(key, looks);
  return true;
}

/** An element with attributes (a function is a listener) and children, which may be texts. */
function make(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const found = document.createElement(tag || "div");
  if (classes.length) found.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") found.addEventListener(key, value);
    else found.setAttribute(key, value === true ? "" : value);
  }
  found.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return found;
}

function draw(tag, attributes = {}, ...children) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  found.append(...children);
  return found;
}

function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value.toFixed(value >= 10 ? 0 : value >= 1 ? 1 : 2)} ms`;
}

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
const namesOf = (entry) => [...new Set([...entry.edited, ...entry.functions, ...entry.added])];
const newestFirst = () => [...told.entries.values()].reverse();

// What can be gone to ----------------------------------------------------------------------------------------------

/** The entry that made live what is wanted of a module now; none when that is the base from the start. */
function liveEntry(module) {
  return newestFirst().find(
    (entry) => entry.key === module.key && entry.digest === module.wanted && ["live", "base"].includes(entry.outcome),
  );
}

/** The line of a compiler's output that says what is wrong. */
const firstError = (entry) => entry.diagnostics.split("\n").find((line) => line.includes("error:")) || "";

/** Why an entry cannot be made live again; empty when it can. */
function whyNot(entry) {
  const module = told.modules.get(entry.key);
  if (!["live", "base"].includes(entry.outcome)) return "it never went live";
  if (!module || !module.holders.length) return "no process has the module loaded";
  if (module.state === "delivering") return "another state is on its way";
  if (entry.digest === module.wanted) return "it is live";
  if (entry.digest && !module.kept.includes(entry.digest)) return "its patch is not kept any more";
  return "";
}

// Modules, processes, threads --------------------------------------------------------------------------------------

function showModules() {
  const modules = [...told.modules.values()];
  if (!isNews("modules", modules, modules.map((module) => liveEntry(module)?.number))) return;
  const cards = [...told.modules.values()].map((module) => {
    const entry = liveEntry(module);
    const isBase = !module.wanted;
    const state = { making: "building…", delivering: "on its way…" }[module.state] || "";
    const differing = module.holders.filter((holder) => holder.live !== module.wanted).length;
    const now = module.state === "delivering" ? "Another state is on its way; until then what was live serves." : isBase ? "The code it was built with is live." : `${entry ? `#${entry.number}` : "A patch"} is live` +
      (entry && entry.generation ? `, generation ${entry.generation}.` : ".");
    return make("div.card", {},
      make("h3", {}, module.module, make("span", {}, state || count(module.holders.length, "process", "processes"))),
      make("p.now", {}, now, entry?.trigger === "page" ? " This page chose it; the next save goes forward again." : "", differing && module.state === "idle" ? ` Not in ${count(differing, "process", "processes")}.` : ""),
      module.functions.length
        ? make("ul.names", { "aria-label": "Functions that were changed" }, module.functions.map(({ name, since }) =>
            make("li", { title: `since #${since}` }, name, make("span", {}, ` #${since}`))))
        : null,
      make("button", {
        type: "button", disabled: isBase || !module.holders.length || module.state === "delivering", "data-key": `base-${module.key}`,
        click: () => ask(module.key, ""),
      }, "Back to base"));
  });
  const empty = make("p.empty", {}, "No hot module is loaded yet. Build an extension with ", make("code", {}, "hotreload build"),
    ", or mark a Python function with ", make("code", {}, "@hotpatchable"), ", and let the program import it.");
  replace($("modules"), cards.length ? cards : [empty]);
}

function showProcesses() {
  if (!isNews("processes", told.processes, [...told.modules.values()].map((module) => [module.holders, module.wanted]))) return;
  const items = told.processes.map((pid) => {
    const has = [...told.modules.values()].flatMap((module) => module.holders.filter((holder) => holder.pid === pid)
      .map((holder) => `${module.module}: ${holder.live === null ? "not known" : holder.live === module.wanted ? "up to date" : "behind"}`));
    return make("li", {}, make("span.mono", {}, String(pid)), make("div.quiet", {}, has.join(", ") || "no hot module"));
  });
  replace($("processes"), [items.length ? make("ul.plain", {}, items)
    : make("p.empty", {}, "No Python process of the program is connected.")]);
}

function showStragglers() {
  if (!isNews("stragglers", [...told.stragglers])) return;
  const items = [...told.stragglers].map(([pid, threads]) => make("div.waiting", {},
    make("b", {}, `Process ${pid}`), threads.map((thread) => make("div", {}, thread))));
  replace($("stragglers"), items.length ? items : [make("p.empty", {}, "None: every thread runs what is live.")]);
}

/** New children, with the focus where it was. */
function replace(parent, children) {
  const key = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children);
  if (key) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

// The time line ----------------------------------------------------------------------------------------------------

function showRow(entry, isFresh) {
  let item = rows.get(entry.number);
  if (!item) {
    const row = make("button.row", { type: "button", tabindex: "-1", "data-number": entry.number, click: () => show(entry.number) });
    const back = make("button.back", { type: "button", tabindex: "-1", click: () => ask(entry.key, entry.digest, entry.number) }, "Go to");
    item = make("li", { class: `${entry.outcome}${isFresh ? " fresh" : ""}` }, row, back);
    rows.set(entry.number, item);
    $("rows").prepend(item);
  }
  const reason = whyNot(entry);
  const module = told.modules.get(entry.key);
  const isNow = Boolean(module) && liveEntry(module) === entry;
  if (!isNews(`row ${entry.number}`, entry, isNow, reason)) return;
  const [row, back] = item.children;
  item.classList.toggle("now", isNow);
  const names = namesOf(entry);
  const about = names.length && entry.outcome !== "nothing" ? names.join(", ") : entry.findings[0]?.reason || firstError(entry) || entry.reason || (entry.outcome === "base" ? "as it was built" : "");
  row.replaceChildren(
    make("span.what", {}, make("b", {}, OUTCOMES[entry.outcome] || entry.outcome), ` ${entry.module} `, isNow ? make("span.tag", {}, "now") : null),
    make("span.took", {}, milliseconds(entry.stages.total)),
    make("span.about", {}, `#${entry.number}  ${entry.trigger === "page" ? "by this page: " : ""}${about}`),
    make("span.when", {}, clock(entry.when)),
  );
  back.hidden = Boolean(reason);
  back.setAttribute("aria-label", `Make row ${entry.number} live again`);
}

function showRows(fresh) {
  for (const [number, item] of rows) {
    if (!told.entries.has(number)) {
      item.remove();
      rows.delete(number);
      diffs.delete(number);
      drawn.delete(`row ${number}`);
    }
  }
  for (const entry of told.entries.values()) showRow(entry, fresh === entry.number);
  $("no-rows").hidden = told.entries.size > 0;
  keepOneStop();
}

/** One row is a stop of the Tab key: the one that was left last, or the newest. */
function keepOneStop(chosen) {
  const all = [...document.querySelectorAll(".row")];
  const stop = chosen || all.find((row) => row.tabIndex === 0) || all[0];
  for (const row of all) {
    row.tabIndex = row === stop ? 0 : -1;
    const back = row.nextElementSibling;
    back.tabIndex = row.tabIndex;
  }
}

/** The row that a key is about: the one with the focus, the one that is shown, or the newest. */
function currentRow() {
  const focused = document.activeElement?.closest?.("#rows li")?.querySelector(".row");
  return focused || rows.get(open)?.querySelector(".row") || document.querySelector(".row");
}

function move(step) {
  const all = [...document.querySelectorAll(".row")];
  if (!all.length) return;
  const focused = all.indexOf(document.activeElement?.closest?.("#rows li")?.querySelector(".row"));
  const left = focused >= 0 ? focused : all.findIndex((row) => row.tabIndex === 0) - step;
  const next = all[Math.max(0, Math.min(all.length - 1, step === -Infinity ? 0 : step === Infinity ? all.length - 1 : left + step))];
  keepOneStop(next);
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

// The plot ---------------------------------------------------------------------------------------------------------

function parts(entry) {
  const known = STAGES.map((stage) => [stage, entry.stages[stage] || 0]);
  const rest = Math.max(0, (entry.stages.total || 0) - known.reduce((sum, [, value]) => sum + value, 0));
  return [...known, ["rest", rest]].filter(([, value]) => value > 0);
}

const spelled = (stage) => (stage === "rest" ? "waiting" : stage);

function niceStep(greatest) {
  const raw = greatest / 3;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= raw);
}

function showPlot() {
  const shown = [...told.entries.values()].filter((entry) => entry.stages.total).slice(-BARS);
  const width = Math.max(240, $("plot").clientWidth);
  const [left, bottom, top] = [46, 20, 8];
  const greatest = Math.max(1, ...shown.map((entry) => entry.stages.total));
  const step = niceStep(greatest);
  const ceiling = Math.ceil(greatest / step) * step;
  const y = (value) => PLOT_HEIGHT - bottom - (value / ceiling) * (PLOT_HEIGHT - bottom - top);
  const slot = Math.min(44, (width - left) / Math.max(shown.length, 8));
  const summary = shown.length
    ? `Milliseconds of the last ${count(shown.length, "reload", "reloads")}; the newest took ${milliseconds(shown[shown.length - 1].stages.total)}. The table below has all figures.`
    : "Milliseconds of each reload; there was none yet.";
  const svg = draw("svg", { viewBox: `0 0 ${width} ${PLOT_HEIGHT}`, role: "img", "aria-label": summary });
  for (let value = 0; shown.length && value <= ceiling + step / 2; value += step) {
    svg.append(draw("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }));
    const label = draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" });
    label.textContent = value >= 1000 ? `${+(value / 1000).toFixed(1)} s` : value ? `${value} ms` : "0";
    svg.append(label);
  }
  shown.forEach((entry, index) => {
    const x = left + 4 + index * slot;
    const bar = draw("g", { class: `bar${entry.number === open ? " open" : ""}` });
    const title = draw("title");
    title.textContent = `#${entry.number} ${entry.module}: ${milliseconds(entry.stages.total)}`;
    bar.append(title, draw("rect", { class: "hit", x: x - 1, y: 0, width: slot - 1, height: PLOT_HEIGHT, rx: 3 }));
    let from = 0;
    for (const [stage, value] of parts(entry)) {
      bar.append(draw("rect", { class: stage, x: x + slot * 0.12, y: y(from + value), width: slot * 0.68, height: Math.max(0.6, y(from) - y(from + value)) }));
      from += value;
    }
    if (slot >= 28 || index % Math.ceil(28 / slot) === 0) {
      const label = draw("text", { x: x + slot * 0.46, y: PLOT_HEIGHT - 5, "text-anchor": "middle" });
      label.textContent = `#${entry.number}`;
      bar.append(label);
    }
    bar.addEventListener("click", () => show(entry.number));
    svg.append(bar);
  });
  if (!shown.length) {
    const note = draw("text", { x: width / 2, y: PLOT_HEIGHT / 2, "text-anchor": "middle" });
    note.textContent = "What each reload takes is drawn here, stage by stage.";
    svg.append(note);
  }
  $("plot").replaceChildren(svg);
  if ($("figures").open) showFigures(shown);
}

function showFigures(shown) {
  const head = make("tr", {}, ["reload", ...STAGES, "total"].map((name) => make("th", { scope: "col" }, name)));
  const body = [...shown].reverse().map((entry) => make("tr", {}, make("th", { scope: "row" }, `#${entry.number} ${entry.module}`),
    [...STAGES, "total"].map((stage) => make("td", {}, milliseconds(entry.stages[stage])))));
  $("figures").querySelector(".scroll").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, body)));
}

// One row, in full -------------------------------------------------------------------------------------------------

function show(number, { focus = true } = {}) {
  open = number;
  for (const [each, item] of rows) item.querySelector(".row").setAttribute("aria-current", String(each === number));
  keepOneStop(rows.get(number)?.querySelector(".row"));
  showDetail();
  showPlot();
  if (focus) {
    $("detail-title").focus({ preventScroll: true });
    document.querySelector(".detail").scrollTop = 0;
    $("detail-title").scrollIntoView({ block: "nearest" });
  }
  if (!diffs.has(number)) load(number);
}

async function load(number) {
  try {
    const answer = await fetch(`entry/${number}`);
    diffs.set(number, answer.ok ? await answer.json() : { reason: await answer.text() });
  } catch (error) {
    return; // the banner says that the connection is lost; opening the row again asks again
  }
  if (open === number) showDetail();
}

function names(label, list, kind) {
  return list.length ? [make("h3", {}, label), make("ul.names", {}, list.map((name) => make("li", { class: kind }, name)))] : [];
}

function problem(place, reason, hint, slug) {
  return make("div.problem", {}, place ? make("div.place", {}, place) : null, make("div", {}, reason),
    hint ? make("div.hint", {}, hint) : null,
    slug ? make("div.hint", {}, make("code.slug", {}, slug), " – ", make("code", {}, `hotreload explain ${slug}`), " says more") : null);
}

function showDetail() {
  const entry = told.entries.get(open);
  if (!entry || !isNews("detail", entry, whyNot(entry), against, diffs.has(open))) return;
  const section = document.querySelector(".detail");
  section.classList.remove(...Object.keys(OUTCOMES));
  section.classList.add(entry.outcome);
  $("detail-title").replaceChildren(`#${entry.number} ${entry.module}`, make("span.tag", {}, OUTCOMES[entry.outcome] || entry.outcome));
  const facts = [
    clock(entry.when), `by ${TRIGGERS[entry.trigger] || entry.trigger}`, entry.generation ? `generation ${entry.generation}` : null,
    entry.processes ? `in ${count(entry.processes, "process", "processes")}` : null,
    entry.consistency ? `level ${entry.consistency}` : null,
    entry.refused_by ? `refused by ${count(entry.refused_by, "process", "processes")}` : null,
    entry.unanswered ? `${count(entry.unanswered, "process", "processes")} did not answer` : null,
  ].filter(Boolean).map((fact) => make("span", {}, fact));
  const reason = whyNot(entry);
  const module = told.modules.get(entry.key);
  const key = `go-${entry.number}`;
  const actions = make("div.actions", {},
    reason ? make("span.quiet", {}, `${reason[0].toUpperCase()}${reason.slice(1)}.`)
      : make("button.go", { type: "button", "data-key": key, click: () => ask(entry.key, entry.digest, entry.number) }, "Make it live again"));
  const content = [make("p.facts", {}, facts), module && ["live", "base"].includes(entry.outcome) ? actions : null];
  if (entry.findings.length) {
    content.push(...entry.findings.map((one) => problem(one.file ? `${one.file}${one.line ? `:${one.line}` : ""}` : "", one.reason, one.hint, one.slug)));
  } else if (entry.reason) {
    content.push(problem("", entry.reason, entry.hint, ""));
  }
  if (entry.diagnostics) content.push(make("pre.output", { tabindex: "0", "aria-label": "What the compiler printed" }, entry.diagnostics));
  content.push(...names("Functions", [...new Set([...entry.edited, ...entry.functions])], ""), ...names("Added", entry.added, "added"), ...names("Removed", entry.removed, "removed"),
    ...names("Changed by the compiler only", entry.compiler_changed, ""));
  if (entry.notes.length) content.push(make("h3", {}, "Notes"), make("ul", {}, entry.notes.map((note) => make("li", {}, note))));
  if (entry.stragglers.length) content.push(make("h3", {}, "Threads that were still in old code"), make("ul", {}, entry.stragglers.map((one) => make("li", {}, one))));
  if (entry.warnings) content.push(make("h3", {}, "Warnings"), make("pre.output", { tabindex: "0", "aria-label": "Warnings" }, entry.warnings));
  content.push(make("h3", {}, `Took ${milliseconds(entry.stages.total)}`), strip(entry), answers(entry), difference(entry));
  replace($("detail"), content.filter(Boolean));
}

function strip(entry) {
  const all = parts(entry);
  const bar = make("div.strip", { "aria-hidden": "true" });
  for (const [stage, value] of all) {
    const piece = make(`i.${stage}`);
    piece.style.flexGrow = value;
    bar.append(piece);
  }
  return make("div", {}, bar, make("ul.stages", {}, all.map(([stage, value]) => make("li", {}, make(`i.${stage}`), `${spelled(stage)} ${milliseconds(value)}`))));
}

/** What each process said; one that took it says all there is in the line above. */
function answers(entry) {
  if (entry.answers.length < 2 && entry.answers.every((answer) => answer.ok)) return "";
  const head = make("tr", {}, ["process", "stage", "commit", "answer"].map((name) => make("th", { scope: "col" }, name)));
  const body = entry.answers.map(({ pid, ok, generation, reason, stage_ms: stage, commit_ms: commit }) => make("tr", {},
    make("th", { scope: "row" }, String(pid)), make("td", {}, milliseconds(stage)), make("td", {}, milliseconds(commit)),
    make("td.answer", {}, ok ? (generation ? `generation ${generation}` : "base") : reason)));
  return make("div", {}, make("h3", {}, "Processes"),
    make("div.scroll", { tabindex: "0", role: "region", "aria-label": "What each process said" }, make("table", {}, make("thead", {}, head), make("tbody", {}, body))));
}

function difference(entry) {
  const found = diffs.get(entry.number);
  const choose = (name, label) => make("button", {
    type: "button", "aria-pressed": String(against === name), "data-key": `against-${name}`, click: () => compareWith(name),
  }, label);
  const head = make("div.split", {}, make("h3", {}, "Sources"),
    make("div.choice", { role: "group", "aria-label": "Compared with" }, choose("previous", "since what was live"), choose("base", "since the base")));
  if (!found) return make("div", {}, head, make("p.quiet", {}, "Reading…"));
  if (found.reason) return make("div", {}, head, make("p.quiet", {}, `${found.reason} ${found.hint || ""}`));
  const { files, left_out: leftOut } = found[against];
  const bodies = files.map((file) => make("div.file", {}, make("h4", { title: file.path }, file.name),
    file.note ? make("p.note", {}, file.note) : null, file.hunks.map(hunk)));
  if (!files.length) bodies.push(make("p.empty", {}, against === "base" ? "The sources are those of the base." : "The sources are those of what was live."));
  if (leftOut) bodies.push(make("p.quiet", {}, `${count(leftOut, "more line is", "more lines are")} not shown.`));
  return make("div", {}, head, bodies);
}

function hunk({ old, new: fresh, heading, lines }) {
  let [before, after] = [old, fresh];
  const shown = lines.map(([sign, text]) => {
    const number = sign === "-" ? before++ : after++;
    if (sign === " ") before++;
    return make(sign === "+" ? "div.plus" : sign === "-" ? "div.minus" : "div", {}, make("span", {}, String(number)), make("b", {}, sign === "-" ? "−" : sign), make("code", {}, text));
  });
  return [make("div.at", {}, `line ${fresh}${heading ? `  ${heading}` : ""}`), make("div.lines", { tabindex: "0", role: "region", "aria-label": heading || `line ${fresh}` }, shown)];
}

function compareWith(name) {
  against = name;
  showDetail();
}

// Going to another state -------------------------------------------------------------------------------------------

function ask(key, digest, number) {
  const module = told.modules.get(key);
  const entry = told.entries.get(number);
  const reason = entry ? whyNot(entry) : !module || !module.holders.length ? "no process has the module loaded"
    : module.state === "delivering" ? "another state is on its way" : module.wanted === digest ? "it is live" : "";
  if (reason) {
    say(`Not possible: ${reason}.`);
    return;
  }
  pending = { key, digest };
  const what = digest ? `row ${number}` : "the code it was built with";
  $("confirm-title").textContent = `Go to ${what}?`;
  $("confirm-text").textContent = `${module.module} changes in ${count(new Set(module.holders.map((holder) => holder.pid)).size, "process", "processes")}, without a restart. ` +
    "The sources stay as they are: the next save goes forward again.";
  $("confirm-error").textContent = "";
  $("confirm-yes").disabled = false;
  $("confirm").showModal();
  $("confirm-yes").focus();
}

async function go() {
  $("confirm-yes").disabled = true;
  try {
    const answer = await fetch("go", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(pending) });
    if (answer.ok) {
      $("confirm").close();
      return;
    }
    const { reason, hint } = answer.status === 409 ? await answer.json() : { reason: await answer.text() };
    $("confirm-error").textContent = hint ? `${reason} (${hint})` : reason;
  } catch (error) {
    $("confirm-error").textContent = "The helper process cannot be reached.";
  }
  $("confirm-yes").disabled = false;
}

// Keys and theme ---------------------------------------------------------------------------------------------------

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const inRows = Boolean(event.target.closest?.("#rows"));
  const isScrolled = event.target.closest?.(".lines, .output, .scroll, summary");
  const entry = () => told.entries.get(Number(currentRow()?.dataset.number));
  const keys = {
    j: () => move(1), k: () => move(-1),
    ArrowDown: () => inRows && move(1), ArrowUp: () => inRows && move(-1),
    Home: () => inRows && move(-Infinity), End: () => inRows && move(Infinity),
    r: () => entry() && ask(entry().key, entry().digest, entry().number),
    b: () => entry() && ask(entry().key, ""),
    d: () => open !== null && compareWith(against === "base" ? "previous" : "base"),
    t: () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]),
    "?": () => $("keys").showModal(),
    Escape: () => currentRow()?.focus(),
  };
  if (isScrolled && event.key.length > 1 && event.key !== "Escape") return;
  if (Object.hasOwn(keys, event.key) && keys[event.key]() !== false) event.preventDefault();
}

const theme = () => document.documentElement.dataset.theme || "auto";

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").replaceChildren({ auto: "◐", light: "☀", dark: "☾" }[name], make("span.wide", {}, ` ${name}`));
  $("theme").setAttribute("aria-label", `Theme: ${name === "auto" ? "as the system has it" : name}`);
  try {
    localStorage.setItem("hotreload-theme", name);
  } catch (error) {
    // storage is switched off: the choice lasts as long as the page
  }
}

function rememberedTheme() {
  try {
    return localStorage.getItem("hotreload-theme");
  } catch (error) {
    return null;
  }
}

function say(text) {
  $("said").textContent = text;
}

// What the server tells --------------------------------------------------------------------------------------------

function showAll(fresh) {
  $("program").textContent = told.program;
  document.title = told.program ? `hotreload – ${told.program}` : "hotreload";
  showModules();
  showProcesses();
  showStragglers();
  showRows(fresh);
  showPlot();
  showDetail();
}

const hear = {
  snapshot(all) {
    told.program = all.program;
    told.modules = new Map(all.modules.map((module) => [module.key, module]));
    told.entries = new Map(all.entries.map((entry) => [entry.number, entry]));
    told.processes = all.processes;
    told.stragglers = new Map(all.stragglers.map(({ pid, stragglers }) => [pid, stragglers]));
    showAll();
  },
  module(module) {
    told.modules.set(module.key, module);
    showAll();
  },
  processes({ pids }) {
    told.processes = pids;
    showProcesses();
  },
  entry(entry) {
    told.entries.set(entry.number, entry);
    for (const number of [...told.entries.keys()].slice(0, -ROWS)) told.entries.delete(number);
    const follows = open === null || open === entry.number - 1; // whoever looks at the newest goes on looking at it
    showAll(entry.number);
    if (follows) show(entry.number, { focus: false });
    say(`Row ${entry.number}: ${entry.module}, ${OUTCOMES[entry.outcome] || entry.outcome}. ${entry.reason || namesOf(entry).join(", ")}`);
  },
  stragglers({ pid, stragglers }) {
    if (stragglers.length) told.stragglers.set(pid, stragglers);
    else told.stragglers.delete(pid);
    showStragglers();
  },
};

let lostTimer = 0;

function connected(state) {
  $("connection").dataset.state = state;
  $("connection").textContent = state;
  clearTimeout(lostTimer);
  if (state === "connected") {
    $("lost").hidden = true;
    return;
  }
  lostTimer = setTimeout(() => {
    $("lost").textContent = "The connection is lost: the program has ended, or is being started again. A new start prints a new address.";
    $("lost").hidden = false;
  }, 700);
}

function listen() {
  const source = new EventSource("events");
  source.addEventListener("open", () => connected("connected"));
  source.addEventListener("error", () => {
    connected("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
  for (const [kind, handle] of Object.entries(hear)) source.addEventListener(kind, (message) => handle(JSON.parse(message.data)));
}

setTheme(THEMES.includes(rememberedTheme()) ? rememberedTheme() : "auto");
$("legend").replaceChildren(...[...STAGES, "rest"].map((stage) => make("li", {}, make(`i.${stage}`), spelled(stage))));
document.addEventListener("keydown", pressed);
$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
$("help").addEventListener("click", () => $("keys").showModal());
$("keys-close").addEventListener("click", () => $("keys").close());
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", go);
$("figures").addEventListener("toggle", showPlot);
new ResizeObserver(() => showPlot()).observe($("plot"));
showAll();
listen();

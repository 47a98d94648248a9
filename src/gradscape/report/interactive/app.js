// Views of the page: one training, all runs, runs side by side, claims, events; before them a study's report.
"use strict";

const inlined = JSON.parse(document.getElementById("data").textContent);
const colors = inlined.colors;
const main = document.getElementById("view");
const report = document.getElementById("report");
const SIDES = 6; // runs side by side, at most
const SPELLS = 5; // verdicts in words under the ribbon; those before are folded
const GRADES = { fail: "does-not-hold", warn: "undecided", info: "holds" };
const state = { runs: inlined.runs, trainings: inlined.trainings, ticked: new Set(), sort: "", descending: false, text: "", chosen: "", title: inlined.title, events: inlined.events, claims: inlined.claims, map: "", layer: "", unread: inlined.unread, notes: inlined.notes, shown: null, drawn: null, read: 0 };

/** Something that may be there soon: what is shown already stays until then. */
class Waiting extends Error {
  constructor(heading, message) { super(message); this.heading = heading; }
}

/** Return a training's document: inlined, or asked for. */
async function training(id) {
  if (!inlined.live) return opened(id);
  return asked("training", { id });
}

/** Return what the server answers; the address may hold a token. */
async function asked(what, values) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) query.set(name, value);
  const answer = await fetch(`api/${what}?${query}`).catch(() => { throw new Waiting("The server of this page does not answer", "It is asked again by itself when it does."); }), found = await answer.json();
  if (found.reading) throw new Waiting("Still being read", `${capital(found.error)}. It appears here by itself.`);
  if (!answer.ok) throw new Error(found.error);
  return found;
}

/** Return an inlined training; what the runs of a study share is put back. */
function opened(id) {
  const found = state.trainings[id];
  if (!found) throw new Error(state.runs.some((run) => run.id === id) ? `${id} has no epoch, or is not in this page. ${state.notes.join(" ")}` : `There is no run ${id} here.`);
  const layout = inlined.layouts[found.layout];
  if (!layout) return { verdicts: [], layers: [], since: null, ...found };
  const last = Object.fromEntries(Object.entries(found.last).map(([key, written]) => [key, cells(written)]));
  const layers = layout.layers.map((name, place) => ({ name, kind: layout.kinds[place], size: layout.sizes[place], shape: layout.shapes[place] ?? [], ...Object.fromEntries(Object.keys(last).map((key) => [key, last[key][place]])) }));
  const maps = found.maps.map((map) => ({ ...map, layers: layout.weights.map((place) => layout.layers[place]) }));
  return { verdicts: [], since: null, ...found, layers, maps };
}

function badge(text, grade) { return make("span", { class: `badge ${GRADES[grade] ?? "not-measured"}` }, text); }

function ago(time) {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  return seconds < 90 ? `${Math.round(seconds)} s ago` : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : seconds < 130000 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function duration(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Return why a run is in its state; a report has that in words as the state itself. */
function reasonOf(run) { return inlined.live ? run?.reason : ""; }

function capital(text) { return text.charAt(0).toUpperCase() + text.slice(1); }

// One training ---------------------------------------------------------------------------------------------

/** Return the view of a training: strip, curves, maps, findings, layers. */
function trainingView(document_) {
  const steps = document_.steps, curves = document_.curves;
  const ends = [...steps, ...curves.flatMap((curve) => curve.series.flatMap((each) => each.x))];
  const early = ends.length ? ends.reduce((a, b) => Math.min(a, b)) : 0, late = ends.length ? ends.reduce((a, b) => Math.max(a, b)) : 1;
  const span = new Span(document_.row === "epoch" ? early - 0.5 : early, document_.row === "epoch" ? late + 0.5 : late + 1);
  const panels = curves.filter((curve) => curve.panel).map((curve) => curveFigure(span, curve, document_, false));
  const shown = curves.filter((curve) => !curve.panel).map((curve, place) => curveFigure(span, curve, document_, place === 0));
  if (!shown.length && document_.verdicts.length) shown.push(make("figure", {}, make("h2", {}, "Verdicts as they formed"), ribbon(span, document_)));
  const view = make("div", {}, strip(document_), ...shown, mapFigure(span, document_),
    panels.length ? make("section", {}, make("h2", {}, "Attention and what goes with it"), make("div", { class: "panels" }, panels)) : null, findings(document_), layerTable(document_));
  view.span = span;
  return view;
}

function strip(document_) {
  const verdict = document_.diagnosis, last = document_.findings[0], error = document_.error || reasonOf(state.runs.find((run) => run.id === document_.id));
  const meta = make("ul", { class: "meta" },
    [document_.name, document_.state, document_.layers.length ? `${document_.layers.length} parameter tensors` : null, `${document_.rows.toLocaleString("en")} ${document_.row}s read`, document_.planned ? `${document_.row} ${document_.at ?? 0} of ${document_.planned}` : document_.at === null ? null : `${document_.row} ${document_.at}`,
      ...document_.optimizers, ...(document_.words ?? [])].filter(Boolean).map((text) => make("li", {}, text)),
    document_.written && document_.state === "running" ? make("li", { class: "heard", "data-heard": document_.written }, ago(document_.written)) : null);
  if (!verdict) return make("header", {}, meta, make("h1", {}, error || (inlined.live ? "Nothing to judge yet" : "Not judged")), make("p", { class: "lead" }, inlined.live ? "The verdict comes with the first steps." : "A run is judged when it has ended."));
  const stood = document_.since === null || document_.since === document_.at ? "" : ` Judged so since ${document_.row} ${document_.since}.`;
  return make("header", {}, meta, make("h1", {}, capital(last.heading)), make("p", { class: "lead" }, badge(last.grade === "info" ? "no fault" : last.grade, last.grade), ` ${capital(last.cause)}.`),
    make("p", {}, make("b", {}, "What would help: "), `${last.remedy}.${stood}`), error ? make("p", {}, make("b", {}, `${capital(document_.state)}: `), error) : null);
}

/** Return the verdicts that differ from the one before, each with the first and the last step that were judged so. */
function spells(document_) {
  const found = [], differs = (a, b) => a.verdict !== b.verdict || a.grade !== b.grade || a.layer !== b.layer;
  for (const each of document_.verdicts) {
    if (!found.length || differs(each, found.at(-1))) found.push({ ...each, first: each.step });
    found.at(-1).step = each.step;
  }
  const steps = (each) => each.first === each.step ? `${document_.row} ${each.step}` : `${document_.row}s ${each.first}–${each.step}`;
  return found.map((each) => ({ ...each, text: `${steps(each)}: ${each.verdict}${each.layer ? `, from ${each.layer} on` : ""}` }));
}

/** Return the verdicts as they formed: a ribbon along the steps, and in words where there was more than one. */
function ribbon(span, document_) {
  const verdicts = spells(document_), box = make("div", { class: "ribbon", role: "img", "aria-label": "verdicts as they formed" });
  box.draw = () => {
    box.replaceChildren(...verdicts.map((each, place) => {
      const from = place ? verdicts[place - 1].step : span.whole[0];
      const until = place === verdicts.length - 1 ? span.whole[1] : each.step;
      const left = Math.max(0, (from - span.low) / (span.high - span.low)), right = Math.min(1, (until - span.low) / (span.high - span.low));
      if (right <= left) return null;
      return make("i", { class: GRADES[each.grade], style: `left:${100 * left}%;width:${100 * (right - left)}%`, title: each.text });
    }).filter(Boolean));
  };
  box.mark = () => {};
  span.listeners.push(box);
  box.draw();
  const words = verdicts.map((each) => make("li", {}, make("i", { class: GRADES[each.grade] }), each.text)), earlier = words.slice(0, Math.max(0, words.length - SPELLS));
  return make("div", {}, make("div", { class: "ribbon-row" }, make("span", {}, "verdict"), box),
    earlier.length ? make("details", { class: "spells" }, make("summary", {}, `${earlier.length} earlier verdicts`), make("ul", {}, earlier)) : null,
    words.length > 1 ? make("ul", { class: "spells" }, words.slice(-SPELLS)) : null);
}

function curveFigure(span, curve, document_, first) {
  const chart = new Curves(span, curve, document_.row);
  return make("figure", {}, make(curve.panel ? "h3" : "h2", {}, capital(curve.title)), chart.legend(), chart.element, first && document_.verdicts.length ? ribbon(span, document_) : null, chart.readout,
    chart.events.length ? make("figcaption", {}, "Red wedges: steps at which the loss spikes.", make("span", { class: "screen" }, " Point at one for its height and its batch.")) : null);
}

function mapFigure(span, document_) {
  if (!document_.maps.length || !document_.steps.length) return null;
  const body = make("div", {}), tabs = make("div", { class: "tabs", role: "tablist", "aria-label": "what the map shows" });
  const layer = make("div", { class: "layer", "aria-live": "polite" });
  const more = make("div", {});
  let chart = null, profile = null;
  const open = (name) => {
    state.layer = name;
    layer.replaceChildren(layerPanel(document_, name));
  };
  const show = (map) => {
    state.map = map.key;
    span.listeners = span.listeners.filter((each) => each !== chart && each !== profile?.listener);
    profile = profileOf(span, document_, map);
    chart = new LayerMap(span, document_.steps, map, document_.row, colors, open);
    chart.faulty = document_.findings[0]?.layer;
    body.replaceChildren(make("div", { class: "whole" }, chart.legend(), chart.element, chart.readout),
      make("div", { class: "whole" }, make("h3", {}, `${map.label} by layer, from the input to the output`), profile.chart.legend(), profile.chart.element, profile.chart.readout));
    for (const tab of tabs.children) tab.setAttribute("aria-selected", String(tab.dataset.key === map.key));
  };
  for (const map of document_.maps) tabs.append(make("button", { type: "button", role: "tab", "data-key": map.key, onclick: () => show(map) }, map.title));
  show(document_.maps.find((map) => map.key === state.map) ?? document_.maps[0]);
  if (document_.maps.some((map) => map.layers.includes(state.layer))) open(state.layer);
  const every = document_.every > 1 && document_.rows > document_.steps.length ? ` One in ${document_.every} of the ${document_.rows} rows is shown.` : "";
  const rounded = document_.maps[0].step ? ` Rounded by ${short(Number((100 * Math.expm1(Math.max(...document_.maps.map((map) => map.step)) / 2)).toPrecision(1)))} % at most.` : "";
  const figure = make("figure", {}, make("h2", {}, `Layer × ${document_.row}`), tabs, body, more,
    make("figcaption", {}, `The input is at the top. Gray: zero; red: not finite; blank: none.${every}${rounded}`, make("span", { class: "screen mouse" }, " Point to read a value, click for a layer, turn the wheel to look closer, double-click for the whole."), make("span", { class: "screen touch" }, " Touch and move to read values, tap for a layer.")), layer);
  const others = () => document_.maps.filter((map) => map.key !== chart.map.key).map((map) => {
    const other = new LayerMap(span, document_.steps, map, document_.row, colors);
    return make("div", { class: "whole" }, other.legend(), other.element);
  });
  const before = [];
  figure.print = (on) => {
    if (on) { before.splice(0, before.length, ...span.listeners); more.replaceChildren(...others()); }
    else { more.replaceChildren(); span.listeners = [...before]; }
  };
  return figure;
}

/** Return the lines of a map's values against depth: the first row, the last, and the one pointed at. */
function profileOf(span, document_, map) {
  const values = cells(map), count = document_.steps.length, x = map.layers.map((_, place) => place + 1);
  const column = (place) => map.layers.map((_, row) => values[row * count + place]);
  const series = [["first", 0], ["last", count - 1], ["pointed at", null]].map(([label, place]) => ({ label: `${label}${label === "pointed at" ? "" : ` ${document_.row} ${document_.steps[place]}`}`, x, y: place === null ? x.map(() => NaN) : column(place), screen: label === "pointed at" }));
  const reference = map.marks[0] ? { label: map.marks[0].label, value: map.marks[0].value } : null;
  const chart = new Curves(new Span(1, map.layers.length), { title: `${map.label} by layer`, series, reference, log: map.log }, "layer", 200);
  const mark = () => {
    if (span.pointed === null) return;
    chart.series[2].y = column(placeOf(document_.steps, span.pointed + (document_.row === "epoch" ? 0.5 : 0)));
    if (chart.bounds) chart.draw();
  };
  const listener = { draw() {}, mark };
  span.listeners.push(listener);
  return { chart, listener };
}

function layerPanel(document_, name) {
  const own = document_.layers.find((each) => each.name === name);
  const span = new Span(document_.steps[0], document_.steps.at(-1));
  const charts = document_.maps.filter((map) => map.layers.includes(name)).map((map) => {
    const all = cells(map), row = map.layers.indexOf(name), count = document_.steps.length;
    const y = [...all.subarray(row * count, (row + 1) * count)];
    const chart = new Curves(span, { title: map.title, series: [{ label: map.label, x: document_.steps, y }], reference: map.marks[0] ? { label: map.marks[0].label, value: map.marks[0].value } : null }, document_.row, 150);
    return make("figure", {}, make("h4", {}, map.label), chart.element, chart.readout);
  });
  const outer = name.slice(0, Math.max(0, name.lastIndexOf("."))), bands = (document_.bands ?? []).map((each) => [each, each.layers.findIndex((layer) => layer === name || (own && each.quantity === "activations" && layer === outer))]).filter(([, row]) => row >= 0).map(([each, row]) => {
    const chart = new Bands(span, each, row, document_.row);
    return make("figure", {}, make("h4", {}, `distribution of ${each.label === "output" ? "the output" : each.label}`), chart.element, chart.readout);
  });
  const about = own ? `${own.kind}, ${own.size.toLocaleString("en")} numbers${own.shape.length ? `, shape ${own.shape.join(" × ")}` : ""}` : "output of a layer";
  const found = document_.findings.filter((each) => each.layer === name);
  return make("section", {}, make("h3", {}, name), make("p", { class: "note" }, about), found.map(findingCard), make("div", { class: "panels" }, charts, bands),
    bands.length ? make("p", { class: "note" }, "Distributions: median, bands from 25 to 75 % and from 5 to 95 %, dotted lines at 1 and 99 %; logarithmic on both sides of 0.") : null);
}

function findingCard(finding) {
  const rows = finding.evidence.map((each) => make("tr", {}, make("td", {}, each.what), make("td", { class: "right", "data-label": "value" }, short(number(each.value))), make("td", { class: "right", "data-label": "limit" }, short(number(each.limit))), make("td", { "data-label": "limit from" }, each.source)));
  return make("article", { class: "claim" }, make("h3", {}, badge(finding.grade === "info" ? "no fault" : finding.grade, finding.grade), ` ${capital(finding.heading)}`),
    make("dl", {}, make("dt", {}, "Cause"), make("dd", {}, `${capital(finding.cause)}.`), make("dt", {}, "What would help"), make("dd", {}, `${capital(finding.remedy)}.`)),
    rows.length ? make("div", { class: "box" }, make("table", {}, make("thead", {}, make("tr", {}, ["measured", "value", "limit", "where the limit comes from"].map((text, place) => make("th", { scope: "col", class: place === 1 || place === 2 ? "right" : false }, text)))), make("tbody", {}, rows))) : null);
}

function findings(document_) {
  if (!document_.diagnosis) return null;
  const notes = document_.diagnosis.notes.map((note) => make("li", {}, note));
  return make("section", { id: "findings" }, make("h2", {}, "Findings"), document_.findings.map(findingCard), make("p", { class: "note" }, `Gradients were read ${document_.diagnosis.seen}.${document_.diagnosis.unseen.length ? ` Not looked at: ${document_.diagnosis.unseen.join("; ")}.` : ""}`), notes.length ? make("ul", { class: "notes" }, notes) : null);
}

function layerTable(document_) {
  if (!document_.layers.length) return null;
  const head = ["parameter", "layer", "kind", "elements", "mean |∂L/∂W|", "RMS", "‖ΔW‖ / ‖W‖"], numbers = new Map(document_.maps[0]?.layers.map((name, place) => [name, place + 1]));
  const rows = document_.layers.map((each) => make("tr", {}, make("th", { scope: "row" }, each.name), make("td", { class: "right" }, numbers.get(each.name) ?? ""), make("td", {}, each.kind), make("td", { class: "right" }, each.size.toLocaleString("en")), ["mean_abs", "rms", "relative_update"].map((key) => make("td", { class: "right" }, short(number(each[key]))))));
  return make("details", { class: "fold" }, make("summary", {}, `All ${document_.layers.length} parameter tensors at the last ${document_.row} read`), make("div", { class: "box", tabindex: 0, role: "region", "aria-label": "parameter tensors" }, make("table", {}, make("thead", {}, make("tr", {}, head.map((text, place) => make("th", { scope: "col", class: place === 1 || place > 2 ? "right" : false }, text)))), make("tbody", {}, rows))));
}

// All runs -------------------------------------------------------------------------------------------------

const ROW = 44; // pixels of a row
const PRINTED = 200; // rows of a printed table, at most
const RIGHT = ["best", "left", "heard", "minutes"];
const COLUMNS = [["name", "run"], ...(inlined.live ? [] : [["roles", "for"]]), ["state", "state"], ["share", "progress"], ["spark", "loss"], ["verdict", "verdict"], ["best", "best valid"],
  ...(inlined.live ? [["left", "time left"], ["heard", "heard"]] : [["minutes", "minutes"]])];
const classOf = (key) => `of-${key}${RIGHT.includes(key) ? " right" : ""}`;
const CELLS = {
  roles: (run) => run.roles ?? "",
  state: (run) => inlined.live ? run.state : run.reason || run.state,
  share: (run) => [make("span", { class: "progress" }, make("i", { style: `width:${100 * (run.share ?? 0)}%` })), make("span", { class: "small" }, run.progress)],
  spark: (run) => sparkline(run.spark),
  verdict: (run) => run.verdict ? badge(run.verdict, run.grade) : reasonOf(run) ? make("span", { class: "reason" }, run.reason) : "",
  best: (run) => run.best === null ? "" : short(run.best),
  left: (run) => run.left === null ? "" : duration(run.left),
  heard: (run) => run.heard === null ? "" : make("span", { class: "small" }, ago(run.heard)),
  minutes: (run) => run.minutes?.toFixed(1) ?? "",
};

function ordered() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (run) => [run.name, run.state, run.roles, run.verdict, run.reason].filter(Boolean).join(" ").toLowerCase();
  const found = state.runs.filter((run) => (!words.length || words.every((word) => text(run).includes(word))) && (!state.chosen || run.state === state.chosen));
  const turn = (run) => run.state === "pending" ? 2 : inlined.live && run.state === "running" ? 0 : 1;
  if (!state.sort) return found.sort((a, b) => turn(a) - turn(b)); // what runs is what one comes to see
  const value = (run) => state.sort === "verdict" ? run.verdict ?? "" : state.sort === "spark" ? lossOf(run) : run[state.sort] ?? (typeof run[state.sort] === "string" ? "" : -Infinity);
  return found.sort((a, b) => { const [x, y] = [value(a), value(b)]; return (x < y ? -1 : x > y ? 1 : 0) * (state.descending ? -1 : 1); });
}

/** Return a run's last loss; infinity where it is not a number, or not known. */
function lossOf(run) {
  const last = number(run.spark.at(-1) ?? null);
  return Number.isNaN(last) ? Infinity : last;
}

function sparkline(values) {
  const finite = values.map(number).filter(Number.isFinite);
  if (finite.length < 2) return "";
  const low = Math.min(...finite), high = Math.max(...finite), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 80 20");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", finite.map((value, place) => `${place ? "L" : "M"}${(80 * place / (finite.length - 1)).toFixed(1)} ${(18 - 16 * (high > low ? (value - low) / (high - low) : 0.5)).toFixed(1)}`).join(""));
  svg.append(path);
  return svg;
}

function runRow(run) {
  const tick = make("input", { type: "checkbox", "aria-label": `compare ${run.name}`, onchange: () => { state.ticked[tick.checked ? "add" : "delete"](run.id); bar(); } });
  tick.checked = state.ticked.has(run.id);
  tick.disabled = !run.has;
  const name = run.has || reasonOf(run) ? make("a", { href: `#training=${encodeURIComponent(run.id)}` }, run.name) : make("span", {}, run.name);
  const others = COLUMNS.slice(1).map(([key]) => make("td", { class: classOf(key) }, CELLS[key](run)));
  return make("tr", { title: [run.name, run.roles, run.verdict, run.reason].filter(Boolean).join("; ") }, make("td", {}, tick), make("th", { scope: "row" }, name), others);
}

function runsView() {
  const body = make("tbody"), above = make("tr", { "aria-hidden": "true" }, make("td")), below = above.cloneNode(true);
  const box = make("div", { class: "box runs", tabindex: 0, role: "region", "aria-label": "runs" });
  const count = make("p", { class: "note", "aria-live": "polite" }), noted = make("p", { class: "note" });
  const head = COLUMNS.map(([key, text]) => make("th", { scope: "col", class: classOf(key) }, make("button", { type: "button", onclick: () => { state.descending = state.sort === key && !state.descending; state.sort = key; view.fill(); } }, text)));
  box.append(make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden" }, "compare")), head)), body));
  let rows = [], printed = false;
  const draw = () => {
    if (printed) { body.replaceChildren(...rows.slice(0, PRINTED).map(runRow)); return; }
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 8), last = Math.min(rows.length, first + Math.ceil(box.clientHeight / ROW) + 16);
    above.firstChild.style.height = `${first * ROW}px`;
    below.firstChild.style.height = `${(rows.length - last) * ROW}px`;
    body.replaceChildren(above, ...rows.slice(first, last).map(runRow), below);
  };
  const view = make("div", {}, make("h1", {}, state.title), make("div", { class: "filters" },
    make("label", {}, "Find ", make("input", { type: "search", value: state.text, oninput: (event) => { state.text = event.target.value; view.fill(); } })),
    make("label", {}, "State ", make("select", { onchange: (event) => { state.chosen = event.target.value; view.fill(); } }, ["", ...new Set(state.runs.map((run) => run.state))].map((name) => make("option", { value: name, selected: name === state.chosen }, name || "all")))), count), box, noted);
  const sorts = () => head.forEach((each, place) => each.setAttribute("aria-sort", COLUMNS[place][0] !== state.sort ? "none" : state.descending ? "descending" : "ascending"));
  const none = make("p"), nothing = "There is no study, run or watch here yet. What is begun in this folder appears by itself: gradscape train --out, or gs.watch(model, optimizer, live=…).";
  view.insertBefore(none, box);
  view.fill = () => { none.hidden = !inlined.live || state.runs.length > 0; none.textContent = state.unread ? "The folder is being read." : nothing; box.hidden = !none.hidden; noted.textContent = state.notes.join(" "); rows = ordered(); sorts(); count.textContent = `${rows.length.toLocaleString("en")} of ${state.runs.length.toLocaleString("en")} runs${state.unread && state.runs.length ? `; still reading, at least ${state.unread.toLocaleString("en")} more` : ""}`; draw(); };
  view.print = (on) => {
    printed = on;
    view.fill();
    if (on && rows.length > PRINTED) count.textContent += `, of which the first ${PRINTED} are printed`;
  };
  box.addEventListener("scroll", draw, { passive: true });
  requestAnimationFrame(() => view.fill());
  return view;
}

/** Return what the page leaves out, in words. */
function notes() { return state.notes.length ? make("p", { class: "note" }, state.notes.join(" ")) : null; }

// Side by side ---------------------------------------------------------------------------------------------

/** Return what gs.compare says of two trainings: inlined, or asked for; a text where it cannot say anything. */
async function comparison(a, b) {
  const known = inlined.comparisons[`${a} ${b}`];
  if (known || !inlined.live) return known ?? `Type: gradscape compare DIR/runs/${a} DIR/runs/${b}`;
  return asked("comparison", { a, b }).catch((error) => { if (error instanceof Waiting) throw error; return error.message; });
}

/** Return where two trainings first differ beyond what seeds explain, and in what settings. */
function differences(found, names) {
  const heading = make("h2", {}, "Where they differ"), sides = make("ul", { class: "meta" }, names.map((name, place) => make("li", {}, `${"ab"[place]}: `, make("a", { href: `#training=${encodeURIComponent(name)}` }, name))));
  if (typeof found === "string") return make("section", { id: "differences" }, heading, sides, make("p", {}, found));
  const row = (cells) => make("tr", {}, cells.map((text, place) => make(place ? "td" : "th", { scope: place ? false : "row", "data-label": place ? ["", "a", "b"][place] : false }, text)));
  const settings = found.settings.length ? make("div", { class: "box", tabindex: 0, role: "region", "aria-label": "settings that differ" }, make("table", {}, make("thead", {}, make("tr", {}, ["setting", "a", "b"].map((text) => make("th", { scope: "col" }, text)))), make("tbody", {}, found.settings.map((each) => row([each.name, each.a, each.b]))))) : make("p", {}, "No setting that is known differs.");
  const later = found.differences.slice(1).map((each) => make("li", {}, `${found.row} ${each.step}, ${each.text}`));
  if (found.more) later.push(make("li", {}, `${found.more} more`));
  const alone = [["a", found.only_a], ["b", found.only_b]].filter(([, layers]) => layers.length).map(([side, layers]) => make("p", {}, `Layers of ${side} alone: ${layers.join(", ")}.`));
  return make("section", { id: "differences" }, heading, sides, make("p", { class: "lead" }, `${capital(found.verdict)}.`), settings, alone,
    later.length ? make("details", { class: "fold" }, make("summary", {}, `${found.differences.length - 1 + found.more} further differences`), make("ul", { class: "notes" }, later)) : null,
    make("p", { class: "note" }, [found.basis, ...found.notes].map((text) => `${capital(text)}.`).join(" ")));
}

async function compareView(ids) {
  if (ids.length === 2 && inlined.comparisons[`${ids[1]} ${ids[0]}`]) ids.reverse();
  const lost = [], read = (id) => training(id).catch((error) => { if (error instanceof Waiting) throw error; lost.push(make("p", { class: "note" }, `${id}: ${error.message}`)); return null; });
  const [where, ...all] = await Promise.all([ids.length === 2 ? comparison(...ids) : null, ...ids.map(read)]), found = all.filter(Boolean);
  if (!found.length) throw new Error(lost.map((each) => each.textContent).join(" "));
  const units = [...new Set(found.map((each) => each.row))], spans = Object.fromEntries(units.map((unit) => [unit, spanOf(found.filter((each) => each.row === unit), unit)]));
  const titles = [...new Set(found.flatMap((each) => each.curves.map((curve) => curve.title)))];
  const together = titles.flatMap((title) => units.map((unit) => {
    const series = found.flatMap((each, place) => each.row !== unit ? [] : each.curves.filter((curve) => curve.title === title).flatMap((curve) => curve.series.slice(-1).map((one) => ({ ...one, of: one.label, label: each.name, place }))));
    const of = [...new Set(series.map((each) => each.of))], named = of.length === 1 && of[0] !== title ? `${title}, ${of[0]}` : title;
    const reference = found.flatMap((each) => each.row === unit ? each.curves : []).find((curve) => curve.title === title)?.reference;
    return series.length ? curveFigure(spans[unit], { title: [units.length > 1 ? `${named} by ${unit}` : named, ...(series.length === 1 ? [series[0].label] : [])].join(": "), series, reference }, { row: unit, verdicts: [] }, false) : null;
  }));
  const first = where?.differences?.[0];
  const view = make("div", {}, make("h1", {}, "Side by side"), lost, where ? differences(where, ids) : null, together, mapsTogether(spans, found.filter((each) => each.maps.length), first?.layer), notes());
  view.span = spans[units[0]];
  return view;
}

/** Return the range of steps, or of epochs, that some trainings have. */
function spanOf(documents, unit) {
  const late = Math.max(...documents.flatMap((each) => [...each.steps, ...each.curves.flatMap((curve) => curve.series.flatMap((one) => one.x))]), 1);
  return new Span(unit === "epoch" ? 0.5 : 0, unit === "epoch" ? late + 0.5 : late + 1);
}

/** Return a training's gravest finding in a line. */
function verdictLine(document_) {
  const finding = document_.findings[0];
  return finding ? make("p", { class: "small" }, badge(finding.verdict, finding.grade), finding.layer ? ` beginning at ${finding.layer}` : "") : null;
}

/** Return one map of each training on a scale that is theirs together, and of two their difference. */
function mapsTogether(spans, found, first) {
  if (!found.length) return null;
  const has = (key) => found.every((each) => each.maps.some((map) => map.key === key)), key = [state.map, ...found[0].maps.map((map) => map.key)].find(has);
  if (!key) return null;
  const maps = found.map((each) => each.maps.find((map) => map.key === key));
  const range = [Math.min(...maps.map((map) => map.range[0])), Math.max(...maps.map((map) => map.range[1]))];
  const panels = maps.map((map, place) => {
    const unit = found[place].row, chart = new LayerMap(spans[unit], found[place].steps, { ...map, range }, unit, colors);
    return make("figure", {}, make("h3", {}, found[place].name), verdictLine(found[place]), chart.legend(), chart.element, chart.readout);
  });
  return make("section", {}, make("h2", {}, `${capital(maps[0].title)} on one scale`), make("div", { class: "panels" }, panels), difference(spans, found, maps, first));
}

/** Return the map of the second over the first, where both have the same layers. */
function difference(spans, found, maps, first) {
  const unit = found[0].row;
  if (found.length !== 2 || found[1].row !== unit || maps[0].layers.join("\n") !== maps[1].layers.join("\n") || !maps[0].log) return null;
  const steps = found[0].steps.filter((step) => found[1].steps.includes(step));
  if (!steps.length) return null;
  const values = maps.map(cells), places = found.map((each) => steps.map((step) => each.steps.indexOf(step)));
  const ratio = new Float32Array(maps[0].layers.length * steps.length);
  let most = 0.1;
  for (let layer = 0; layer < maps[0].layers.length; layer++) for (let place = 0; place < steps.length; place++) {
    const pair = [0, 1].map((which) => values[which][layer * found[which].steps.length + places[which][place]]);
    const value = Math.log10(pair[1] / pair[0]);
    ratio[layer * steps.length + place] = value;
    if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  }
  const map = { ...maps[0], label: `log10 of ${found[1].name} over ${found[0].name}`, log: false, colors: "cosine", range: [-most, most], marks: [], values: ratio };
  const chart = new LayerMap(spans[unit], steps, map, unit, colors);
  chart.faulty = first;
  return make("figure", {}, make("h2", {}, "Difference"), chart.legend(), chart.element, chart.readout);
}

// Claims and events ----------------------------------------------------------------------------------------

function claimsView() {
  const cards = state.claims.map((claim) => make("article", { class: "claim" }, make("h2", {}, make("span", { class: `badge ${claim.verdict.replaceAll(" ", "-")}` }, claim.verdict), ` ${claim.id} ${claim.title}`), make("p", {}, claim.text), claim.parts.map(forest), make("p", { class: "note" }, claim.note)));
  return make("div", {}, make("h1", {}, "Claims"), cards.length ? cards : make("p", {}, "No claim has been judged yet."));
}

function forest(part) {
  const words = make("p", { class: "part" }, `${part.text} (${part.rule}): ${part.shown}`), line = part.forest;
  if (!line) return words;
  return make("div", {}, words, make("div", { class: "forest", role: "img", "aria-label": line.text },
    line.marks.map((at) => make("u", { style: `left:${at}%` })), line.bar ? make("i", { style: `left:${line.bar[0]}%;right:${100 - line.bar[1]}%` }) : null,
    line.points.map((each) => make("b", { style: `left:${each.at}%`, title: each.text })), make("span", { class: "from" }, line.low), make("span", { class: "to" }, line.high)));
}

function eventsView() {
  const rows = [...state.events].sort((a, b) => (b.time ?? 0) - (a.time ?? 0)).map((each) => make("tr", {}, make("td", { class: "small" }, each.time === null ? "" : new Date(1000 * each.time).toLocaleString("en-GB")), make("th", { scope: "row" }, each.run ? make("a", { href: `#training=${encodeURIComponent(each.id)}` }, each.run) : ""), make("td", {}, badge(each.what, each.grade)), make("td", {}, each.text)));
  return make("div", { class: "stack events" }, make("h1", {}, "Events"), rows.length ? make("div", { class: "box", tabindex: 0, role: "region", "aria-label": "events" }, make("table", {}, make("thead", {}, make("tr", {}, ["when", "run", "what", ""].map((text) => text ? make("th", { scope: "col" }, text) : make("td", {})))), make("tbody", {}, rows))) : make("p", {}, "Nothing has happened yet."));
}

// Which view -----------------------------------------------------------------------------------------------

/** Return the links to the views; in a report a name without "=" is a place in its text. */
function links() {
  const count = (number) => number ? number.toLocaleString("en") : "";
  const runs = [report ? "#runs=" : "#runs", `Runs ${count(state.runs.length)}`], ticked = [`#compare=${[...state.ticked].map(encodeURIComponent).join(",")}`, `Compare ${count(state.ticked.size)}`];
  if (report) return [["#", "Report"], runs, ticked, ...(inlined.report ? [["#claims", `Claims ${inlined.report}`]] : [])];
  return [runs, ticked, ...(state.claims.length ? [["#claims", `Claims ${state.claims.length}`]] : []), ...(inlined.live ? [["#events", `Events ${count(state.events.length)}`]] : [])];
}

function bar() {
  const nav = document.getElementById("nav"), here = report && !location.hash.includes("=") ? "#" : (location.hash || "#runs").split("=")[0];
  nav.parentElement.hidden = !inlined.live && !report && state.runs.length < 2;
  nav.replaceChildren(...links().map(([href, text]) => href === "#compare=" ? make("span", { title: `tick two to ${SIDES} runs` }, text) : make("a", { href, "aria-current": here === href.split("=")[0] ? "page" : false }, text)));
}

async function show() {
  const [view, value = ""] = location.hash.slice(1).split("=");
  const only = !inlined.live && !report && state.runs.length === 1 ? state.runs[0].id : "";
  const key = location.hash;
  if (report && !key.includes("=")) { read(key); return; }
  if (report && !report.hidden) state.read = window.scrollY;
  const ids = view === "compare" && value ? value.split(",").map(decodeURIComponent).slice(0, SIDES) : null;
  if (ids) state.ticked = new Set(ids);
  bar();
  state.shown = key;
  if (state.drawn !== key) state.layer = "";
  let found;
  try {
    if (view === "training" || only) found = trainingView(await training(only || decodeURIComponent(value)));
    else if (ids) found = await compareView([...ids]);
    else if (view === "claims") found = claimsView();
    else if (view === "events") found = eventsView();
    else found = runsView();
  } catch (error) {
    if (state.drawn === key && error instanceof Waiting && main.firstChild?.span) return;
    found = make("div", {}, make("h1", {}, error.heading ?? "This cannot be shown"), ...about(view === "training" ? decodeURIComponent(value) : ""), make("p", {}, error.message));
  }
  if (state.shown === key) draw(key, found); // else somebody went on to another view while this one was asked for
}

/** Put a view in the place of the one before it; a newer one of the same comes as the reader had left that. */
function draw(key, found) {
  const same = state.drawn === key, y = window.scrollY;
  if (same) keep(main, found);
  const focused = same ? twinOf(document.activeElement, main, found) : null;
  main.replaceChildren(found);
  state.drawn = key;
  focused?.focus({ preventScroll: true });
  if (report) [report.hidden, main.parentElement.hidden] = [true, false];
  if (same) window.scrollTo(0, y);
  else if (report) window.scrollTo(0, 0);
}

/** Return the name and the state of a training that has no view. */
function about(id) {
  const run = state.runs.find((each) => each.id === id);
  return run ? [make("ul", { class: "meta" }, make("li", {}, run.name), make("li", {}, run.state), run.progress ? make("li", {}, run.progress) : null)] : [];
}

/** Show the report's text: at a place in it, or where somebody had read. */
function read(hash) {
  const away = report.hidden;
  [report.hidden, main.parentElement.hidden, state.shown, state.drawn] = [false, true, hash, hash];
  main.replaceChildren();
  bar();
  if (!away) return;
  const place = hash.length > 1 ? document.getElementById(decodeURIComponent(hash.slice(1))) : null;
  if (place) place.scrollIntoView(); else window.scrollTo({ top: state.read, behavior: "instant" });
}

/** Bring a newer view to where the reader had left the one before it: steps, values, lines and folds. */
function keep(before, now) {
  const chartsOf = (view) => [...view.querySelectorAll(".chart")].map((each) => each.chart), earlier = chartsOf(before);
  for (const chart of chartsOf(now)) {
    const place = earlier.findIndex((each) => each.label === chart.label);
    if (place >= 0) chart.resume(earlier.splice(place, 1)[0]);
  }
  const folds = [...before.querySelectorAll("details")];
  for (const fold of now.querySelectorAll("details")) {
    const place = folds.findIndex((each) => each.className === fold.className);
    if (place >= 0) fold.open = folds.splice(place, 1)[0].open;
  }
}

/** Return what stands in a newer view where an element stood: of the same kind and name, in the same place among these. */
function twinOf(element, before, now) {
  const nameOf = (each) => each.getAttribute("aria-label") ?? each.textContent;
  const like = (view) => [...view.querySelectorAll(element.tagName)].filter((each) => nameOf(each) === nameOf(element));
  return like(now)[like(before).indexOf(element)];
}

function refresh() {
  if (!inlined.live) return;
  bar();
  if (state.shown?.startsWith("#training") || state.shown?.startsWith("#compare") || state.shown?.startsWith("#claims") || state.shown?.startsWith("#events")) show();
  else main.firstChild?.fill?.();
}

/** Follow the server: changed runs arrive as they are written; a lost connection comes back by itself. */
function follow() {
  const source = new EventSource(`events${location.search}`);
  const word = document.getElementById("connection");
  let waiting = false, drawn = 0;
  source.onopen = () => { word.textContent = "live"; word.className = "badge holds"; };
  source.onerror = () => { word.textContent = "not connected"; word.className = "badge does-not-hold"; };
  source.onmessage = (message) => {
    const news = JSON.parse(message.data), isRead = state.unread > 0 && news.unread === 0, places = new Map(state.runs.map((run, place) => [run.id, place]));
    if (news.runs_all) state.runs = news.runs_all;
    for (const run of news.runs ?? []) places.has(run.id) ? (state.runs[places.get(run.id)] = run) : state.runs.push(run);
    if (news.gone) state.runs = state.runs.filter((run) => !news.gone.includes(run.id));
    Object.assign(state, Object.fromEntries(["claims", "events", "title", "unread", "notes"].filter((key) => key in news).map((key) => [key, news[key]])));
    const [view, ids] = (state.shown ?? "").split("="), here = ids && ["#training", "#compare"].includes(view) ? ids.split(",").map(decodeURIComponent) : [];
    const touched = !here.length || news.runs_all || isRead || (news.runs ?? []).some((run) => here.includes(run.id));
    if (waiting || document.hidden || !touched) { bar(); return; }
    waiting = true;
    setTimeout(() => { waiting = false; refresh(); drawn = Date.now(); }, Math.max(0, drawn + 50 - Date.now()));
  };
}

setInterval(() => {
  for (const each of document.querySelectorAll("[data-heard]")) {
    const seconds = Date.now() / 1000 - Number(each.dataset.heard);
    each.textContent = `heard ${ago(Number(each.dataset.heard))}`;
    each.classList.toggle("late", seconds > 60);
  }
}, 1000);
/** Draw what is shown for print, in light colors and whole, and afterwards for the screen again. */
function drawForPrint(on) {
  root.classList.toggle("printing", on);
  for (const fold of document.querySelectorAll("details")) {
    if (on && !fold.open) fold.dataset.closed = "";
    if (on) fold.open = true; else if ("closed" in fold.dataset) { fold.open = false; delete fold.dataset.closed; }
  }
  for (const each of [main.firstChild, ...main.querySelectorAll("figure")]) each?.print?.(on);
  for (const each of document.querySelectorAll(".chart")) each.chart.redraw();
}

/** Make the names of runs in the report's text lead to them. */
function linkRuns() {
  for (const cell of report.querySelectorAll("[data-run]")) {
    const id = cell.dataset.run;
    if (state.trainings[id]) cell.replaceChildren(make("a", { href: `#training=${encodeURIComponent(id)}` }, id));
  }
  for (const each of report.querySelectorAll(".scripted")) each.hidden = false;
}

window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
dark.addEventListener("change", () => { for (const each of document.querySelectorAll(".chart")) each.chart.redraw(); });
window.addEventListener("beforeprint", () => drawForPrint(true));
window.addEventListener("afterprint", () => drawForPrint(false));
if (inlined.live) document.getElementById("connection").hidden = false;
if (report) linkRuns();
show();
if (inlined.live) follow();

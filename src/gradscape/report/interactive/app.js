// Views of the page: one training, all runs, runs side by side, claims, events.
"use strict";

const inlined = JSON.parse(document.getElementById("data").textContent);
const colors = inlined.colors;
const main = document.getElementById("view");
const GRADES = { fail: "does-not-hold", warn: "undecided", info: "holds" };
const state = { runs: inlined.runs, trainings: inlined.trainings, ticked: new Set(), sort: "", descending: false, text: "", chosen: "", title: inlined.title, events: inlined.events, claims: inlined.claims, map: "", shown: null, lost: false };

/** Return a training's document: inlined, or asked for. */
async function training(id) {
  if (!inlined.live) return state.trainings[id];
  const answer = await fetch(`api/training/${encodeURIComponent(id)}${location.search}`);
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}

function badge(text, grade) { return make("span", { class: `badge ${GRADES[grade] ?? "not-measured"}` }, text); }

function ago(time) {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  return seconds < 90 ? `${Math.round(seconds)} s ago` : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : seconds < 130000 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

function duration(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function capital(text) { return text.charAt(0).toUpperCase() + text.slice(1); }

// One training ---------------------------------------------------------------------------------------------

/** Return the view of a training: strip, curves, maps, findings, layers. */
function trainingView(document_) {
  const steps = document_.steps, curves = document_.curves;
  const ends = [...steps, ...curves.flatMap((curve) => curve.series.flatMap((each) => each.x))];
  const early = ends.length ? ends.reduce((a, b) => Math.min(a, b)) : 0, late = ends.length ? ends.reduce((a, b) => Math.max(a, b)) : 1;
  const span = new Span(document_.row === "epoch" ? early - 0.5 : early, document_.row === "epoch" ? late + 0.5 : late + 1);
  const view = make("div", {}, strip(document_), ...curves.map((curve, place) => curveFigure(span, curve, document_, place === 0)), mapFigure(span, document_), findings(document_), layerTable(document_));
  view.span = span;
  return view;
}

function strip(document_) {
  const verdict = document_.diagnosis, last = document_.findings[0];
  const meta = make("ul", { class: "meta" },
    [document_.name, document_.state, `${document_.layers.length} parameter tensors`, `${document_.rows.toLocaleString("en")} ${document_.row}s read`, document_.planned ? `${document_.row} ${document_.at ?? 0} of ${document_.planned}` : document_.at === null ? null : `${document_.row} ${document_.at}`,
      ...document_.optimizers, ...(document_.words ?? [])].filter(Boolean).map((text) => make("li", {}, text)),
    document_.written && document_.state === "running" ? make("li", { class: "heard", "data-heard": document_.written }, ago(document_.written)) : null);
  if (!verdict) return make("header", {}, meta, make("h1", {}, document_.error || "Nothing to judge yet"), make("p", { class: "lead" }, "The verdict comes with the first steps."));
  const stood = document_.since === null || document_.since === document_.at ? "" : ` Judged so since ${document_.row} ${document_.since}.`;
  return make("header", {}, meta, make("h1", {}, capital(last.heading)), make("p", { class: "lead" }, badge(last.grade === "info" ? "no fault" : last.grade, last.grade), ` ${capital(last.cause)}.`),
    make("p", {}, make("b", {}, "What would help: "), `${last.remedy}.${stood}`), document_.error ? make("p", { class: "note" }, document_.error) : null);
}

function ribbon(span, document_) {
  const box = make("div", { class: "ribbon", role: "img", "aria-label": "verdicts as they formed" });
  box.draw = () => {
    const verdicts = document_.verdicts;
    box.replaceChildren(...verdicts.map((each, place) => {
      const from = place ? verdicts[place - 1].step : span.whole[0];
      const until = place === verdicts.length - 1 ? span.whole[1] : each.step;
      const left = Math.max(0, (from - span.low) / (span.high - span.low)), right = Math.min(1, (until - span.low) / (span.high - span.low));
      if (right <= left) return null;
      return make("i", { class: GRADES[each.grade], style: `left:${100 * left}%;width:${100 * (right - left)}%`, title: `${document_.row} ${each.step}: ${each.verdict}${each.layer ? `, ${each.layer}` : ""}` });
    }).filter(Boolean));
  };
  box.mark = () => {};
  span.listeners.push(box);
  box.draw();
  return make("div", { class: "ribbon-row" }, make("span", {}, "verdict"), box);
}

function curveFigure(span, curve, document_, first) {
  const chart = new Curves(span, curve, document_.row);
  return make("figure", {}, make("h2", {}, capital(curve.title)), chart.legend(), chart.element, first && document_.verdicts.length ? ribbon(span, document_) : null, chart.readout);
}

function mapFigure(span, document_) {
  if (!document_.maps.length || !document_.steps.length) return null;
  const body = make("div", {}), tabs = make("div", { class: "tabs", role: "tablist", "aria-label": "what the map shows" });
  const layer = make("div", { class: "layer", "aria-live": "polite" });
  let chart = null, profile = null;
  const show = (map) => {
    state.map = map.key;
    span.listeners = span.listeners.filter((each) => each !== chart && each !== profile?.listener);
    profile = profileOf(span, document_, map);
    chart = new LayerMap(span, document_.steps, map, document_.row, colors, (name) => layer.replaceChildren(layerPanel(document_, name)));
    chart.faulty = document_.findings[0]?.layer;
    body.replaceChildren(chart.legend(), chart.element, chart.readout, make("h3", {}, `${map.label} by layer, from the input to the output`), profile.chart.legend(), profile.chart.element, profile.chart.readout);
    for (const tab of tabs.children) tab.setAttribute("aria-selected", String(tab.dataset.key === map.key));
  };
  for (const map of document_.maps) tabs.append(make("button", { type: "button", role: "tab", "data-key": map.key, onclick: () => show(map) }, map.title));
  show(document_.maps.find((map) => map.key === state.map) ?? document_.maps[0]);
  const every = document_.every > 1 && document_.rows > document_.steps.length ? ` Every ${document_.every}th of ${document_.rows} rows is shown.` : "";
  return make("figure", {}, make("h2", {}, `Layer × ${document_.row}`), tabs, body,
    make("figcaption", {}, `The input is at the top. Gray: zero; red: not finite; blank: none.${every} Point to read a value, click for a layer, turn the wheel to look closer, double-click for the whole.`), layer);
}

/** Return the lines of a map's values against depth: the first row, the last, and the one pointed at. */
function profileOf(span, document_, map) {
  const values = floats(map.values), count = document_.steps.length, x = map.layers.map((_, place) => place + 1);
  const column = (place) => map.layers.map((_, row) => values[row * count + place]);
  const series = [["first", 0], ["last", count - 1], ["pointed at", count - 1]].map(([label, place]) => ({ label: `${label}${label === "pointed at" ? "" : ` ${document_.row} ${document_.steps[place]}`}`, x, y: column(place) }));
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
    const all = floats(map.values), row = map.layers.indexOf(name), count = document_.steps.length;
    const y = [...all.subarray(row * count, (row + 1) * count)];
    const chart = new Curves(span, { title: map.title, series: [{ label: map.label, x: document_.steps, y }], reference: map.marks[0] ? { label: map.marks[0].label, value: map.marks[0].value } : null }, document_.row, 150);
    return make("figure", {}, make("h4", {}, map.label), chart.element, chart.readout);
  });
  const about = own ? `${own.kind}, ${own.size.toLocaleString("en")} numbers${own.shape.length ? `, shape ${own.shape.join(" × ")}` : ""}` : "output of a layer";
  const found = document_.findings.filter((each) => each.layer === name);
  return make("section", {}, make("h3", {}, name), make("p", { class: "note" }, about), found.map(findingCard), make("div", { class: "panels" }, charts));
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
  return make("section", { id: "findings" }, make("h2", {}, "Findings"), document_.findings.map(findingCard), make("p", { class: "note" }, `Gradients were read ${document_.diagnosis.seen}.`), notes.length ? make("ul", { class: "notes" }, notes) : null);
}

function layerTable(document_) {
  const head = ["parameter", "kind", "elements", "mean |∂L/∂W|", "RMS", "‖ΔW‖ / ‖W‖"];
  const rows = document_.layers.map((each) => make("tr", {}, make("th", { scope: "row" }, each.name), make("td", {}, each.kind), make("td", { class: "right" }, each.size.toLocaleString("en")), ["mean_abs", "rms", "relative_update"].map((key) => make("td", { class: "right" }, short(number(each[key]))))));
  return make("details", { class: "fold" }, make("summary", {}, `All ${document_.layers.length} parameter tensors at the last ${document_.row} read`), make("div", { class: "box", tabindex: 0, role: "region", "aria-label": "parameter tensors" }, make("table", {}, make("thead", {}, make("tr", {}, head.map((text, place) => make("th", { scope: "col", class: place > 1 ? "right" : false }, text)))), make("tbody", {}, rows))));
}

// All runs -------------------------------------------------------------------------------------------------

const ROW = 44; // pixels of a row
const COLUMNS = [
  ["name", "run"], ["state", "state"], ["share", "progress"], ["spark", "loss"], ["verdict", "verdict"], ["best", "best valid"], ["left", "time left"], ["heard", "heard"],
];

function ordered() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = state.runs.filter((run) => words.every((word) => run.search.includes(word)) && (!state.chosen || run.state === state.chosen));
  if (!state.sort) return found;
  const value = (run) => state.sort === "verdict" ? run.verdict ?? "" : state.sort === "spark" ? run.spark.at(-1) ?? Infinity : run[state.sort] ?? (typeof run[state.sort] === "string" ? "" : -Infinity);
  return found.sort((a, b) => { const [x, y] = [value(a), value(b)]; return (x < y ? -1 : x > y ? 1 : 0) * (state.descending ? -1 : 1); });
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
  const share = run.share === null ? 0 : run.share;
  return make("tr", { title: run.reason || false }, make("td", {}, tick), make("th", { scope: "row" }, run.has ? make("a", { href: `#training=${encodeURIComponent(run.id)}` }, run.name) : run.name),
    make("td", {}, run.state), make("td", {}, make("span", { class: "progress" }, make("i", { style: `width:${100 * share}%` })), make("span", { class: "small" }, run.progress)), make("td", { class: "spark" }, sparkline(run.spark)),
    make("td", {}, run.verdict ? badge(run.verdict, run.grade) : ""), make("td", { class: "right" }, run.best === null ? "" : short(run.best)), make("td", { class: "right" }, run.left === null ? "" : duration(run.left)), make("td", { class: "right small" }, run.heard === null ? "" : ago(run.heard)));
}

function runsView() {
  const body = make("tbody"), above = make("tr", { "aria-hidden": "true" }, make("td", { colspan: 9 })), below = above.cloneNode(true);
  const box = make("div", { class: "box runs", tabindex: 0, role: "region", "aria-label": "runs" });
  const count = make("p", { class: "note", "aria-live": "polite" });
  const head = COLUMNS.map(([key, text]) => make("th", { scope: "col", class: ["best", "left", "heard"].includes(key) ? "right" : false }, make("button", { type: "button", onclick: () => { state.descending = state.sort === key && !state.descending; state.sort = key; view.fill(); } }, text)));
  box.append(make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "hidden" }, "compare")), head)), body));
  let rows = [];
  const draw = () => {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 8), last = Math.min(rows.length, first + Math.ceil(box.clientHeight / ROW) + 16);
    above.firstChild.style.height = `${first * ROW}px`;
    below.firstChild.style.height = `${(rows.length - last) * ROW}px`;
    body.replaceChildren(above, ...rows.slice(first, last).map(runRow), below);
  };
  const view = make("div", {}, make("h1", {}, state.title), make("div", { class: "filters" },
    make("label", {}, "Find ", make("input", { type: "search", value: state.text, oninput: (event) => { state.text = event.target.value; view.fill(); } })),
    make("label", {}, "State ", make("select", { onchange: (event) => { state.chosen = event.target.value; view.fill(); } }, ["", ...new Set(state.runs.map((run) => run.state))].map((name) => make("option", { value: name, selected: name === state.chosen }, name || "all")))), count), box);
  view.fill = () => { rows = ordered(); count.textContent = `${rows.length.toLocaleString("en")} of ${state.runs.length.toLocaleString("en")} runs`; draw(); };
  box.addEventListener("scroll", draw, { passive: true });
  requestAnimationFrame(() => view.fill());
  return view;
}

// Side by side ---------------------------------------------------------------------------------------------

async function compareView(ids) {
  const found = await Promise.all(ids.map(training));
  const maps = found.map((each) => each.maps.find((map) => map.key === (state.map || "mean_abs")) ?? each.maps[0]).map((map) => ({ ...map }));
  const low = Math.min(...maps.map((map) => map.range[0])), high = Math.max(...maps.map((map) => map.range[1]));
  const late = Math.max(...found.map((each) => Math.max(...each.steps, 1))), unit = found[0].row;
  const span = new Span(unit === "epoch" ? 0.5 : 0, unit === "epoch" ? late + 0.5 : late + 1);
  const titles = [...new Set(found.flatMap((each) => each.curves.map((curve) => curve.title)))];
  const together = titles.map((title) => {
    const series = found.flatMap((each) => each.curves.filter((curve) => curve.title === title).flatMap((curve) => curve.series.slice(-1).map((one) => ({ ...one, label: each.name }))));
    return curveFigure(span, { title, series, reference: found[0].curves.find((curve) => curve.title === title)?.reference }, { row: unit, verdicts: [] }, false);
  });
  const panels = maps.map((map, place) => {
    const chart = new LayerMap(span, found[place].steps, { ...map, range: [low, high] }, unit, colors);
    return make("figure", {}, make("h3", {}, found[place].name), make("p", {}, found[place].findings[0] ? badge(found[place].findings[0].heading, found[place].findings[0].grade) : ""), chart.legend(), chart.element, chart.readout);
  });
  return make("div", {}, make("h1", {}, "Side by side"), together, make("h2", {}, `${capital(maps[0].title)} on one scale`), make("div", { class: "panels" }, panels), difference(span, found, maps, unit));
}

/** Return the map of the second over the first, where both have the same layers. */
function difference(span, found, maps, unit) {
  if (found.length !== 2 || maps[0].layers.join("\n") !== maps[1].layers.join("\n") || !maps[0].log) return null;
  const steps = found[0].steps.filter((step) => found[1].steps.includes(step));
  if (!steps.length) return null;
  const values = maps.map((map) => floats(map.values)), places = found.map((each) => steps.map((step) => each.steps.indexOf(step)));
  const ratio = new Float32Array(maps[0].layers.length * steps.length);
  let most = 0.1;
  for (let layer = 0; layer < maps[0].layers.length; layer++) for (let place = 0; place < steps.length; place++) {
    const pair = [0, 1].map((which) => values[which][layer * found[which].steps.length + places[which][place]]);
    const value = Math.log10(pair[1] / pair[0]);
    ratio[layer * steps.length + place] = value;
    if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  }
  let text = "";
  for (const byte of new Uint8Array(ratio.buffer)) text += String.fromCharCode(byte);
  const map = { ...maps[0], label: `log10 of ${found[1].name} over ${found[0].name}`, log: false, colors: "cosine", range: [-most, most], marks: [], values: btoa(text) };
  const chart = new LayerMap(span, steps, map, unit, colors);
  return make("figure", {}, make("h2", {}, "Difference"), chart.legend(), chart.element, chart.readout);
}

// Claims and events ----------------------------------------------------------------------------------------

function claimsView() {
  const cards = state.claims.map((claim) => make("article", { class: "claim" }, make("h2", {}, make("span", { class: `badge ${claim.verdict.replaceAll(" ", "-")}` }, claim.verdict), ` ${claim.id} ${claim.title}`), make("p", {}, claim.text), claim.parts.map(forest), make("p", { class: "note" }, claim.note)));
  return make("div", {}, make("h1", {}, "Claims"), cards.length ? cards : make("p", {}, "No claim has been judged yet."));
}

function forest(part) {
  const words = make("p", { class: "part" }, `${part.text} (${part.rule}): ${part.shown}`);
  const values = part.numbers.map(number).filter(Number.isFinite);
  if (!values.length) return words;
  const [low, high] = part.low === null ? [Math.min(...values), Math.max(...values)] : [number(part.low), number(part.high)];
  const from = Math.min(low, ...values), to = Math.max(high, ...values), place = (each) => `${100 * (0.04 + 0.92 * (to > from ? (each - from) / (to - from) : 0.5))}%`;
  return make("div", {}, words, make("div", { class: "forest", role: "img", "aria-label": `${values.length} seeds, ${short(from)} to ${short(to)}` },
    part.low === null ? null : make("i", { style: `left:${place(low)};right:calc(100% - ${place(high)})` }), values.map((value) => make("b", { style: `left:${place(value)}`, title: short(value) })), make("span", { class: "from" }, short(from)), make("span", { class: "to" }, short(to))));
}

function eventsView() {
  const rows = state.events.map((each) => make("tr", {}, make("td", { class: "small" }, each.time === null ? "" : new Date(1000 * each.time).toLocaleString("en-GB")), make("th", { scope: "row" }, each.run ? make("a", { href: `#training=${encodeURIComponent(each.id)}` }, each.run) : ""), make("td", {}, badge(each.what, each.grade)), make("td", {}, each.text)));
  return make("div", {}, make("h1", {}, "Events"), rows.length ? make("div", { class: "box", tabindex: 0, role: "region", "aria-label": "events" }, make("table", {}, make("thead", {}, make("tr", {}, ["when", "run", "what", ""].map((text) => text ? make("th", { scope: "col" }, text) : make("td", {})))), make("tbody", {}, rows))) : make("p", {}, "Nothing has happened yet."));
}

// Which view -----------------------------------------------------------------------------------------------

function bar() {
  const nav = document.getElementById("nav");
  if (!inlined.live && state.runs.length < 2) { nav.parentElement.hidden = true; return; }
  const here = location.hash || "#runs";
  const links = [["#runs", `Runs ${state.runs.length.toLocaleString("en")}`], [`#compare=${[...state.ticked].map(encodeURIComponent).join(",")}`, `Compare ${state.ticked.size || ""}`], ...(state.claims.length ? [["#claims", `Claims ${state.claims.length}`]] : []), ["#events", `Events ${state.events.length || ""}`]];
  nav.replaceChildren(...links.map(([href, text]) => href === "#compare=" ? make("span", { title: "tick two to six runs" }, text) : make("a", { href, "aria-current": here.split("=")[0] === href.split("=")[0] ? "page" : false }, text)));
}

async function show() {
  const [view, value = ""] = location.hash.slice(1).split("=");
  const only = !inlined.live && state.runs.length === 1 ? state.runs[0].id : "";
  const y = window.scrollY, key = location.hash, same = state.shown === key;
  bar();
  state.shown = key;
  try {
    let found;
    if (view === "training" || only) found = trainingView(await training(only || decodeURIComponent(value)));
    else if (view === "compare" && value) found = await compareView(value.split(",").map(decodeURIComponent).slice(0, 6));
    else if (view === "claims") found = claimsView();
    else if (view === "events") found = eventsView();
    else found = runsView();
    if (same && main.firstChild?.span && found.span) keep(main.firstChild.span, found.span);
    main.replaceChildren(found);
    if (same) window.scrollTo(0, y);
  } catch (error) {
    main.replaceChildren(make("h1", {}, "This cannot be shown"), make("p", {}, error.message));
  }
}

/** Show the same steps as before, where somebody had looked closer. */
function keep(before, now) {
  if (before.low !== before.whole[0] || before.high !== before.whole[1]) now.set(before.low, before.high);
}

function refresh() {
  bar();
  if (state.shown?.startsWith("#training") || state.shown?.startsWith("#compare") || state.shown?.startsWith("#claims") || state.shown?.startsWith("#events")) show();
  else main.firstChild?.fill?.();
}

/** Follow the server: changed runs arrive as they are written; a lost connection comes back by itself. */
function follow() {
  const source = new EventSource(`events${location.search}`);
  const word = document.getElementById("connection");
  let waiting = false;
  source.onopen = () => { word.textContent = "live"; word.className = "badge holds"; };
  source.onerror = () => { word.textContent = "not connected"; word.className = "badge does-not-hold"; };
  source.onmessage = (message) => {
    const news = JSON.parse(message.data), places = new Map(state.runs.map((run, place) => [run.id, place]));
    if (news.runs_all) state.runs = news.runs_all;
    for (const run of news.runs ?? []) places.has(run.id) ? (state.runs[places.get(run.id)] = run) : state.runs.push(run);
    if (news.gone) state.runs = state.runs.filter((run) => !news.gone.includes(run.id));
    Object.assign(state, Object.fromEntries(["claims", "events", "title"].filter((key) => news[key]).map((key) => [key, news[key]])));
    const here = state.shown?.startsWith("#training=") ? decodeURIComponent(state.shown.slice(10)) : "";
    const touched = !here || news.runs_all || (news.runs ?? []).some((run) => run.id === here);
    if (waiting || document.hidden || !touched) { bar(); return; }
    waiting = true;
    setTimeout(() => { waiting = false; refresh(); }, 50);
  };
}

setInterval(() => {
  for (const each of document.querySelectorAll("[data-heard]")) {
    const seconds = Date.now() / 1000 - Number(each.dataset.heard);
    each.textContent = `heard ${ago(Number(each.dataset.heard))}`;
    each.classList.toggle("late", seconds > 60);
  }
}, 1000);
window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
dark.addEventListener("change", show);
window.addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details")) fold.open = true; });
document.getElementById("connection").hidden = !inlined.live;
show();
if (inlined.live) follow();

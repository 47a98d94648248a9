// Charts of a training on canvases: curves and maps of layer × step that share one range of steps.
"use strict";

const SHEET = 400; // pixels of a map's height in print, at most: two have room on a sheet
const SIDE = { left: 58, right: 14, top: 8, bottom: 26 };
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

/** Return a color of the page, which differs between light and dark. */
function color(name) {
  return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
}

/** Return true while the page is printed: always in light colors. */
function isPrinting() { return root.classList.contains("printing"); }

/** Make an element with attributes and children; text is always text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return a number of the files, where what is not finite is spelled. */
function number(value) {
  return value === null ? NaN : Number(value);
}

/** Write a number with three digits. */
function short(value) {
  if (Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(3)));
  const [digits, power] = value.toExponential(2).split("e");
  return `${digits}e${power.replace("+", "")}`;
}

/** Return numbers that were written as little-endian float32 in base64, or as 16-bit codes of their logarithms. */
function cells({ values, low, step }) {
  if (values instanceof Float32Array) return values;
  const bytes = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0)).buffer;
  if (low === undefined) return new Float32Array(bytes);
  return Float32Array.from(new Uint16Array(bytes), (code) => code < 3 ? [NaN, 0, Infinity][code] : Math.exp(Math.log(low) + step * (code - 3)));
}

/** Return the place of the last element that is at most a value; 0 if none is. */
function placeOf(sorted, value) {
  let low = 0, high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sorted[middle] <= value) low = middle; else high = middle - 1;
  }
  return low;
}

/** Return round numbers within a range. */
function ticks(low, high, most) {
  const raw = (high - low) / Math.max(most, 1);
  if (!(raw > 0)) return [low];
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((each) => each >= raw);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) found.push(k * step);
  return found;
}

/** Range of steps that all charts of a training show; they are drawn again when it changes. */
class Span {
  constructor(low, high) {
    this.whole = [low, Math.max(high, low + 1)];
    [this.low, this.high] = this.whole;
    this.listeners = [];
    this.pointed = null;
  }
  extend(high) {
    const shown = this.high === this.whole[1];
    this.whole[1] = Math.max(this.whole[1], high);
    if (shown) this.high = this.whole[1];
  }
  set(low, high) {
    const least = Math.min(4, this.whole[1] - this.whole[0]);
    const width = Math.max(high - low, least);
    this.low = Math.max(this.whole[0], Math.min(low, this.whole[1] - width));
    this.high = Math.min(this.whole[1], this.low + width);
    this.tell();
  }
  zoom(factor, around) {
    const width = (this.high - this.low) * factor;
    const share = (around - this.low) / (this.high - this.low);
    this.set(around - share * width, around + (1 - share) * width);
  }
  reset() { this.set(...this.whole); }
  tell() { for (const listener of this.listeners) listener.draw(); }
  point(step) {
    this.pointed = step;
    for (const listener of this.listeners) listener.mark();
  }
}

/** Base of the charts: two canvases, of which the upper holds what is pointed at. */
class Chart {
  constructor(span, height, label) {
    this.span = span;
    this.height = height;
    this.label = label;
    this.canvas = make("canvas", { role: "img", "aria-label": label });
    this.over = make("canvas", { class: "over", tabindex: 0, role: "application", "aria-label": `${label}; arrow keys read values` });
    this.element = make("div", { class: "chart", style: `height:${height}px` }, this.canvas, this.over);
    this.readout = make("output", { class: "readout" }, " ");
    this.element.chart = this;
    span.listeners.push(this);
    for (const name of ["pointerdown", "pointermove"]) this.over.addEventListener(name, (event) => this.pointAt(event));
    this.over.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "touch") return; // what a finger has read stays when it is lifted
      this.row = null;
      span.point(null);
    });
    this.over.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey && Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
      event.preventDefault();
      span.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.stepAt(event));
    }, { passive: false });
    this.over.addEventListener("dblclick", () => span.reset());
    this.over.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }
  get inner() {
    const width = this.element.clientWidth;
    return { x: SIDE.left, y: SIDE.top, width: Math.max(10, width - SIDE.left - SIDE.right), height: this.height - SIDE.top - SIDE.bottom };
  }
  xOf(step) {
    const { x, width } = this.inner;
    return x + width * (step - this.span.low) / (this.span.high - this.span.low);
  }
  stepAt(event) {
    const { x, width } = this.inner;
    const share = (event.offsetX - x) / width;
    return this.span.low + Math.min(1, Math.max(0, share)) * (this.span.high - this.span.low);
  }
  /** Draw in the colors of the page as they are now. */
  redraw() { this.draw(); }
  /** Go on as the chart before it was left: the steps shown, the step and the layer pointed at. */
  resume(before) {
    const { low, high, whole, pointed } = before.span;
    const isWhole = low === whole[0] && high === whole[1];
    this.row = before.row;
    if (!isWhole && (low !== this.span.low || high !== this.span.high)) this.span.set(low, high);
    if (pointed !== this.span.pointed) this.span.point(pointed);
  }
  pointAt(event) {
    this.row = this.rowAt ? this.rowAt(event.offsetY) : null;
    this.span.point(this.stepAt(event));
  }
  key(event) {
    const steps = this.steps;
    if (!steps.length) return;
    let place = placeOf(steps, this.span.pointed ?? this.span.high);
    if (event.key === "ArrowLeft") place -= 1;
    else if (event.key === "ArrowRight") place += 1;
    else if (event.key === "ArrowUp" && this.moveRow) this.moveRow(-1);
    else if (event.key === "ArrowDown" && this.moveRow) this.moveRow(1);
    else if (event.key === "Enter" && this.choose) this.choose();
    else if (event.key === "+") this.span.zoom(0.5, steps[place]);
    else if (event.key === "-") this.span.zoom(2, steps[place]);
    else if (event.key === "0") this.span.reset();
    else return;
    event.preventDefault();
    this.span.point(steps[Math.min(steps.length - 1, Math.max(0, place))]);
  }
  /** Return the drawing context of a canvas, cleared and as sharp as the screen. */
  context(canvas) {
    const ratio = isPrinting() ? 3 : window.devicePixelRatio || 1, width = this.element.clientWidth;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(this.height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(this.height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, this.height);
    context.font = "11.5px system-ui, sans-serif";
    return context;
  }
  drawSteps(context, unit) {
    const { x, y, width, height } = this.inner;
    context.fillStyle = color("muted");
    context.textAlign = "center";
    context.textBaseline = "top";
    const room = x + width - context.measureText(unit).width - 24;
    for (const step of ticks(this.span.low, this.span.high, width / 70).filter(Number.isInteger)) {
      if (this.xOf(step) < room) context.fillText(step.toLocaleString("en"), this.xOf(step), y + height + 6);
    }
    context.textAlign = "right";
    context.fillText(unit, x + width, y + height + 6);
  }
  drawPointed(context, step) {
    const { y, height } = this.inner, x = this.xOf(step);
    context.strokeStyle = color("ink");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x, y + height);
    context.stroke();
  }
}

/** Map of layer × step: a cell per layer and row read, its color the value. */
class LayerMap extends Chart {
  constructor(span, steps, map, unit, colors, onLayer) {
    super(span, 60 + Math.min(520, Math.max(140, map.layers.length * 12)), `${map.label} of ${map.layers.length} layers over ${unit}s`);
    Object.assign(this, { steps, map, unit, colors, onLayer, row: null, whole: this.height });
    this.values = cells(map);
    this.range = map.range.map(Number);
    this.paint();
    this.over.addEventListener("click", () => this.choose());
  }
  /** Make the picture of all cells, one pixel each. */
  paint() {
    const layers = this.map.layers.length, columns = this.steps.length;
    this.picture = make("canvas", { width: Math.max(1, columns), height: Math.max(1, layers) });
    const context = this.picture.getContext("2d"), image = context.createImageData(Math.max(1, columns), Math.max(1, layers));
    for (let cell = 0; cell < layers * columns; cell++) {
      const rgb = this.colorOf(this.values[cell]);
      if (rgb) image.data.set([...rgb, 255], 4 * cell);
    }
    context.putImageData(image, 0, 0);
  }
  redraw() {
    this.height = isPrinting() ? Math.min(this.whole, SHEET) : this.whole;
    this.element.style.height = `${this.height}px`;
    this.paint();
    this.draw();
  }
  share(value) {
    const [low, high] = this.range;
    const share = this.map.log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return Math.min(1, Math.max(0, share));
  }
  colorOf(value) {
    if (Number.isNaN(value)) return null;
    if (!Number.isFinite(value)) return [214, 39, 40];
    if (this.map.log && value <= 0) return dark.matches && !isPrinting() ? [70, 76, 84] : [206, 211, 217];
    const table = this.colors[this.map.colors];
    return table[Math.round(this.share(value) * (table.length - 1))];
  }
  get rowHeight() { return this.inner.height / Math.max(1, this.map.layers.length); }
  rowAt(y) {
    const row = Math.floor((y - this.inner.y) / this.rowHeight);
    return Math.min(this.map.layers.length - 1, Math.max(0, row));
  }
  moveRow(by) { this.row = Math.min(this.map.layers.length - 1, Math.max(0, (this.row ?? 0) + by)); }
  choose() { if (this.row !== null && this.onLayer) this.onLayer(this.map.layers[this.row]); }
  draw() {
    const context = this.context(this.canvas), { x, y, width, height } = this.inner;
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.imageSmoothingEnabled = false;
    const shift = this.unit === "epoch" ? -0.5 : 0, last = this.steps.length - 1;
    for (let column = Math.max(0, placeOf(this.steps, this.span.low)); column <= last && this.steps[column] + shift <= this.span.high; column++) {
      const next = column < last ? this.steps[column + 1] : this.steps[column] + (last ? this.steps[last] - this.steps[last - 1] : 1);
      const from = this.xOf(this.steps[column] + shift);
      context.drawImage(this.picture, column, 0, 1, this.map.layers.length, from, y, Math.max(1, this.xOf(next + shift) - from) + 0.4, height);
    }
    context.restore();
    this.drawLayers(context);
    this.drawSteps(context, this.unit);
    this.mark();
  }
  drawLayers(context) {
    const { x, y } = this.inner, every = Math.max(1, Math.ceil(14 / this.rowHeight));
    context.fillStyle = color("muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let row = 0; row < this.map.layers.length; row += every) context.fillText(String(row + 1), x - 6, y + (row + 0.5) * this.rowHeight);
    const faulty = this.map.layers.indexOf(this.faulty ?? "");
    if (faulty < 0) return;
    context.strokeStyle = color("fails");
    context.lineWidth = 2;
    context.strokeRect(x + 1, y + faulty * this.rowHeight, this.inner.width - 2, Math.max(3, this.rowHeight));
  }
  mark() {
    const context = this.context(this.over), step = this.span.pointed;
    if (step === null || !this.steps.length) { this.readout.textContent = " "; return; }
    const place = placeOf(this.steps, step + (this.unit === "epoch" ? 0.5 : 0));
    this.drawPointed(context, this.steps[place]);
    if (this.row === null || this.row === undefined) { this.readout.textContent = `${this.unit} ${this.steps[place]}`; return; }
    const { x, y, width } = this.inner;
    context.strokeRect(x, y + this.row * this.rowHeight, width, this.rowHeight);
    const value = this.values[this.row * this.steps.length + place];
    this.readout.textContent = `${this.map.layers[this.row]} (${this.row + 1} of ${this.map.layers.length}), ${this.unit} ${this.steps[place]}: ${this.map.label} ${Number.isFinite(value) || Number.isNaN(value) ? short(value) : "not finite"}`;
  }
  /** Return the bar that tells which color is which value, with marks. */
  legend() {
    const table = this.colors[this.map.colors], [low, high] = this.range;
    const stops = table.filter((_, place) => place % 8 === 0 || place === table.length - 1);
    const bar = make("div", { class: "bar", style: `background:linear-gradient(to right, ${stops.map((rgb) => `rgb(${rgb})`).join(", ")})` });
    for (const mark of this.map.marks) {
      const value = number(mark.value);
      if (value >= low && value <= high) bar.append(make("i", { style: `left:${100 * this.share(value)}%` }, make("span", {}, `${mark.label} ${short(value)}`)));
    }
    return make("div", { class: "scale" }, make("span", {}, short(low)), bar, make("span", {}, short(high)), make("span", { class: "what" }, this.map.label));
  }
}

/** Lines over steps, with a range where many steps were joined, and a level to hold them against. */
class Curves extends Chart {
  constructor(span, curve, unit, height = 210) {
    super(span, height, `${curve.title} over ${unit}s`);
    this.unit = unit;
    this.title = curve.title;
    this.reference = curve.reference;
    this.events = curve.events ?? [];
    this.wantsLog = curve.log ?? false;
    this.hidden = new Set();
    this.series = curve.series.map((each) => ({
      label: each.label,
      x: each.x,
      y: each.y.map(number),
      low: each.low ? each.low.map(number) : null,
      high: each.high ? each.high.map(number) : null,
      screen: each.screen ?? false,
      place: each.place ?? null,
    }));
    this.steps = [...new Set(this.series.flatMap((each) => each.x))].sort((a, b) => a - b);
  }
  get shown() { return this.series.filter((each) => !this.hidden.has(each.label) && !(each.screen && isPrinting())); }
  look(series) { return LINES[(series.place ?? this.series.indexOf(series)) % LINES.length]; }
  limits() {
    let low = Infinity, high = -Infinity, least = Infinity;
    for (const each of this.shown) {
      const lows = each.low ?? each.y, highs = each.high ?? each.y;
      for (let place = 0; place < each.x.length; place++) {
        if (each.x[place] < this.span.low || each.x[place] > this.span.high) continue;
        if (Number.isFinite(lows[place])) low = Math.min(low, lows[place]);
        if (Number.isFinite(highs[place])) high = Math.max(high, highs[place]);
        if (lows[place] > 0) least = Math.min(least, lows[place]);
      }
    }
    if (!(low <= high)) [low, high] = [0, 1];
    const level = this.reference ? number(this.reference.value) : NaN;
    this.log = low > 0 && (this.wantsLog || high / least > 200);
    if (level > 0 && (!this.log || (level < 10 * high && level > low / 10))) [low, high] = [Math.min(low, level), Math.max(high, level)];
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const room = this.log ? 0 : 0.06 * (high - low);
    return this.log ? [low / 1.2, high * 1.2] : [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  }
  yOf(value) {
    const { y, height } = this.inner, [low, high] = this.bounds;
    const share = this.log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return y + height * (1 - share);
  }
  draw() {
    const context = this.context(this.canvas), { x, y, width, height } = this.inner;
    this.bounds = this.limits();
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const [low, high] = this.bounds;
    const levels = this.log ? ticks(Math.ceil(Math.log10(low)), Math.log10(high), 4).filter(Number.isInteger).map((power) => 10 ** power) : ticks(low, high, 5);
    const decimals = levels.length > 1 ? Math.max(0, -Math.floor(Math.log10(levels[1] - levels[0]) + 1e-9)) : 0;
    const text = (level) => this.log || Math.abs(level) < 1e-3 || Math.abs(level) >= 1e5 ? short(level) : level.toFixed(Math.min(decimals, 12));
    for (const level of levels) {
      context.strokeStyle = color("grid");
      context.beginPath();
      context.moveTo(x, this.yOf(level));
      context.lineTo(x + width, this.yOf(level));
      context.stroke();
      context.fillStyle = color("muted");
      context.fillText(text(level), x - 6, this.yOf(level));
    }
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    for (const each of this.shown) this.drawSeries(context, each);
    if (this.reference) this.drawReference(context);
    this.drawEvents(context);
    context.restore();
    this.drawSteps(context, this.unit);
    this.mark();
  }
  drawSeries(context, series) {
    const look = this.look(series);
    if (series.low) {
      context.fillStyle = look.color();
      context.globalAlpha = 0.2;
      context.beginPath();
      series.x.forEach((step, place) => context.lineTo(this.xOf(step), this.yOf(series.high[place])));
      for (let place = series.x.length - 1; place >= 0; place--) context.lineTo(this.xOf(series.x[place]), this.yOf(series.low[place]));
      context.fill();
      context.globalAlpha = 1;
    }
    context.strokeStyle = look.color();
    context.setLineDash(look.dash);
    context.lineWidth = 1.8;
    context.beginPath();
    let drawn = false;
    series.x.forEach((step, place) => {
      const value = series.y[place];
      if (!Number.isFinite(value) || (this.log && value <= 0)) { drawn = false; return; }
      context[drawn ? "lineTo" : "moveTo"](this.xOf(step), this.yOf(value));
      drawn = true;
    });
    context.stroke();
    context.setLineDash([]);
    if (series.x.length === 1) context.fillRect(this.xOf(series.x[0]) - 2, this.yOf(series.y[0]) - 2, 4, 4);
  }
  drawReference(context) {
    const level = this.yOf(number(this.reference.value)), { x } = this.inner;
    context.strokeStyle = color("muted");
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(x, level);
    context.lineTo(x + this.inner.width, level);
    context.stroke();
    context.setLineDash([]);
    const right = this.nearest(level, 0.85, 1) > this.nearest(level, 0, 0.15), below = level - 16 < this.inner.y;
    const at = right ? x + this.inner.width - 4 : x + 4, { width } = context.measureText(this.reference.label);
    context.fillStyle = color("card"); // a curve may lie there too
    context.globalAlpha = 0.85;
    context.fillRect(right ? at - width - 2 : at - 2, below ? level + 2 : level - 16, width + 4, 14);
    context.globalAlpha = 1;
    context.fillStyle = color("muted");
    context.textAlign = right ? "right" : "left";
    context.textBaseline = below ? "top" : "bottom";
    context.fillText(this.reference.label, at, level + (below ? 3 : -2));
  }
  /** Return how near curves come to a height, in pixels, within a part of the width. */
  nearest(level, from, until) {
    const { x, width } = this.inner;
    let found = Infinity;
    for (const each of this.shown) each.x.forEach((step, place) => {
      const share = (this.xOf(step) - x) / width, at = this.yOf(each.y[place]);
      if (share >= from && share <= until && Number.isFinite(at)) found = Math.min(found, Math.abs(at - level));
    });
    return found;
  }
  /** Draw a red wedge at the upper edge over each step at which something happened. */
  drawEvents(context) {
    const { y } = this.inner;
    context.fillStyle = color("fails");
    for (const event of this.events) {
      const x = this.xOf(event.step);
      context.beginPath();
      context.moveTo(x - 5, y);
      context.lineTo(x + 5, y);
      context.lineTo(x, y + 8);
      context.fill();
    }
  }
  /** Return the text of what happened at a step that is pointed at, or within a wedge's width of it. */
  eventAt(step) {
    return this.events.find((event) => Math.abs(this.xOf(event.step) - this.xOf(step)) <= 5)?.text;
  }
  mark() {
    const context = this.context(this.over), step = this.span.pointed;
    if (step === null || !this.steps.length) { this.readout.textContent = " "; return; }
    const place = placeOf(this.steps, step + (this.unit === "epoch" ? 0.5 : 0)), at = this.steps[place];
    this.drawPointed(context, at);
    const parts = this.shown.map((each) => {
      const index = placeOf(each.x, at), range = each.low ? ` (${short(each.low[index])} … ${short(each.high[index])})` : "";
      return `${each.label} ${short(each.y[index])}${range}`;
    });
    const happened = this.eventAt(at);
    this.readout.textContent = `${this.unit} ${at}: ${parts.join(", ")}${happened ? `; ${happened}` : ""}`;
  }
  /** Return buttons that show or hide the lines. */
  legend() {
    if (this.series.length < 2) return null;
    this.keys = this.series.map((each) => {
      const look = this.look(each);
      return make("button", { type: "button", class: each.screen ? "screen" : false, "aria-pressed": "true", onclick: () => {
        this.toggle(each.label);
        this.draw();
      } }, make("i", { style: `border-top-color:var(--${look.name});border-top-style:${look.dash.length ? "dashed" : "solid"}` }), each.label);
    });
    return make("div", { class: "keys" }, this.keys);
  }
  toggle(label) {
    const isHidden = this.hidden.has(label), place = this.series.findIndex((each) => each.label === label);
    this.hidden[isHidden ? "delete" : "add"](label);
    this.keys[place].setAttribute("aria-pressed", String(isHidden));
  }
  resume(before) {
    super.resume(before);
    for (const { label } of this.series) if (before.hidden.has(label)) this.toggle(label);
  }
}

/** Quantiles of a layer over steps: median, bands and dotted ends, on an axis that is logarithmic on both sides of 0. */
class Bands extends Chart {
  constructor(span, bands, row, unit) {
    super(span, 190, `quantiles of ${bands.label} of ${bands.layers[row]} over ${unit}s`);
    this.unit = unit;
    this.steps = bands.steps;
    const count = 7 * bands.steps.length;
    this.values = cells(bands).subarray(row * count, (row + 1) * count);
    const sizes = [...this.values].map(Math.abs), seen = sizes.filter((size) => size > 0 && Number.isFinite(size));
    const inner = seen.length ? sizes.filter((size, place) => size > 0 && (place % 7 === 2 || place % 7 === 4)) : [];
    const decade = (all, least) => Math.floor(Math.log10(all.reduce((a, b) => least === (a < b) ? a : b)));
    this.linear = seen.length ? 10 ** Math.max(decade(inner.length ? inner : seen, true), decade(seen, false) - 6) : 1;
  }
  at(place, quantile) { return this.values[7 * place + quantile]; }
  scaled(value) { return Math.sign(value) * Math.log10(1 + Math.abs(value) / this.linear); }
  yOf(value) {
    const { y, height } = this.inner, [low, high] = this.bounds;
    return y + height * (1 - (this.scaled(value) - low) / (high - low));
  }
  limits() {
    let low = 0, high = 0;
    for (let place = 0; place < this.steps.length; place++) {
      if (this.steps[place] < this.span.low || this.steps[place] > this.span.high || Number.isNaN(this.at(place, 0))) continue;
      low = Math.min(low, this.scaled(this.at(place, 0)));
      high = Math.max(high, this.scaled(this.at(place, 6)));
    }
    const room = 0.06 * Math.max(high - low, 0.1);
    return [low - (low < 0 ? room : 0), high + (high > 0 || low === 0 ? room : 0)];
  }
  draw() {
    const context = this.context(this.canvas), { x, y, width, height } = this.inner;
    this.bounds = this.limits();
    this.drawLevels(context);
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.fillStyle = context.strokeStyle = color("line-1");
    for (const [lower, upper, alpha] of [[1, 5, 0.2], [2, 4, 0.35]]) {
      context.globalAlpha = alpha;
      for (const part of this.parts()) {
        context.beginPath();
        for (const place of part) context.lineTo(this.xOf(this.steps[place]), this.yOf(this.at(place, upper)));
        for (const place of part.toReversed()) context.lineTo(this.xOf(this.steps[place]), this.yOf(this.at(place, lower)));
        context.fill();
      }
    }
    context.globalAlpha = 1;
    for (const [quantile, dash, line] of [[0, [2, 3], 1], [6, [2, 3], 1], [3, [], 1.8]]) {
      context.setLineDash(dash);
      context.lineWidth = line;
      for (const part of this.parts()) {
        context.beginPath();
        for (const place of part) context.lineTo(this.xOf(this.steps[place]), this.yOf(this.at(place, quantile)));
        context.stroke();
        if (part.length === 1) context.fillRect(this.xOf(this.steps[part[0]]) - 2, this.yOf(this.at(part[0], quantile)) - 1, 4, 2);
      }
    }
    context.setLineDash([]);
    context.restore();
    this.drawSteps(context, this.unit);
    this.mark();
  }
  /** Return the places of readings in a row that have quantiles. */
  parts() {
    const found = [[]];
    this.steps.forEach((_, place) => Number.isNaN(this.at(place, 3)) ? found.push([]) : found.at(-1).push(place));
    return found.filter((part) => part.length);
  }
  /** Draw a line at 0 and at as many powers of ten as have room. */
  drawLevels(context) {
    const { x, y, width, height } = this.inner, first = Math.log10(this.linear), levels = [0];
    for (let power = Math.round(first); power < first + 60; power++) levels.push(10 ** power, -(10 ** power));
    let above = Infinity, below = -Infinity;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.lineWidth = 1;
    for (const level of levels) {
      const at = this.yOf(level);
      if (at < y || at > y + height || (level > 0 && at > above - 18) || (level < 0 && at < below + 18)) continue;
      if (level >= 0) above = Math.min(above, at);
      if (level <= 0) below = Math.max(below, at);
      context.strokeStyle = color(level ? "grid" : "muted");
      context.beginPath();
      context.moveTo(x, at);
      context.lineTo(x + width, at);
      context.stroke();
      context.fillStyle = color("muted");
      context.fillText(short(level), x - 6, at);
    }
  }
  mark() {
    const context = this.context(this.over), step = this.span.pointed;
    if (step === null || !this.steps.length) { this.readout.textContent = " "; return; }
    const place = placeOf(this.steps, step);
    this.drawPointed(context, this.steps[place]);
    const [low, lower, quarter, median, three, upper, high] = [0, 1, 2, 3, 4, 5, 6].map((quantile) => short(this.at(place, quantile)));
    this.readout.textContent = `${this.unit} ${this.steps[place]}: median ${median}; 25 to 75 %: ${quarter} to ${three}; 5 to 95 %: ${lower} to ${upper}; 1 and 99 %: ${low} and ${high}`;
  }
}

const LINES = [[], [6, 3], [], [2, 3], [], [8, 3, 2, 3]].map((dash, place) => ({ dash, name: `line-${place + 1}`, color: () => color(`line-${place + 1}`) }));

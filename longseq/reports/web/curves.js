// The curves of a report, drawn by uPlot from the numbers in the page: drag to zoom, values under the
// pointer, arrow keys. Without JavaScript the pictures that stand in the page stay.
//
// numbers: {tables: [{x: […], c: {key: […]}}], charts: [{title, series: [{table, key, label, …}], …}],
//           events: [[iteration, text]]}; longseq/reports/curves.py says what each field is.
"use strict";
(() => {
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const DASHES = [[], [7, 4], [2, 3], [8, 3, 2, 3]], SIZES = [8, 6.5, 5, 3.5];  // of lines and of points: equal ones show each other
  const charts = [], ends = numbers.tables.flatMap(({x, c}) => c.lm_loss ? [x[0], x.at(-1)] : []);
  const wide = (low, high, log) => low < high ? [low, high] : log ? [low / 2, high * 2] : [low - 1, high + 1];  // one x: in the middle
  const ENDS = wide(Math.min(...ends), Math.max(...ends));  // of the marks' lines
  const WHOLE = Array.from({length: 48}, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3));  // steps between iterations
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const label = (element, all) => Object.entries(all).forEach(([name, text]) => element.setAttribute(name, text));
  const make = (tag, of, parent) => parent.appendChild(Object.assign(document.createElement(tag), of));

  // ---- numbers as people read them
  const shown = (v) => {
    if (v == null) return "–";
    if (v !== 0 && Math.abs(v) < 1e-3) return v.toExponential(3);
    return Math.abs(v) >= 1e5 || Number.isInteger(v) ? v.toLocaleString("en", {maximumFractionDigits: 0}) : String(Number(v.toPrecision(5)));
  };
  const short = (v) => {
    if (v !== 0 && Math.abs(v) < 1e-3) return Number(v.toPrecision(4)).toExponential();
    for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(v) >= size) return Number((v / size).toPrecision(4)) + unit;
    return String(Number(v.toPrecision(6)));
  };

  // ---- the points of a curve: only where there is a number, so that the nearest one is found; all: with the
  // gaps between them, where a curve that each iteration has a point of is not drawn
  const points = (series) => {
    const {x, c} = numbers.tables[series.table];
    if (series.value != null) return {xs: ENDS, ys: [series.value, series.value], all: [ENDS, [series.value, series.value]]};
    const ys = c[series.key], known = [...x.keys()].filter((i) => ys[i] != null), there = [known.map((i) => x[i]), known.map((i) => ys[i])];
    return {xs: there[0], ys: there[1], all: series.points ? there : [x, ys]};
  };
  // the places in uPlot's values of a curve (undefined: not one of its x) that no line reaches
  const alone = (ys) => {
    const own = [...ys.keys()].filter((i) => ys[i] !== undefined), value = (n) => ys[own[n]] ?? null;
    return own.filter((i, n) => value(n) !== null && value(n - 1) === null && value(n + 1) === null);
  };
  const nearest = (xs, x) => {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const m = (low + high) >> 1; if (xs[m] > x) high = m; else low = m; }
    return Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
  };

  // ---- areas: a texture each, as .area0 … of page.css, told apart without colour
  const TEXTURES = ["M4 4h.01", "M-1 1L1 -1M-1 9L9 -1M7 9L9 7", "M-1 7L1 9M-1 -1L9 9M7 -1L9 1", "M0 4H8"];
  const texture = (n, name) => () => {
    const tile = document.createElement("canvas"), pen = tile.getContext("2d"), hue = colour(name);
    tile.width = tile.height = 8 * devicePixelRatio;
    pen.fillStyle = hue + "55"; pen.fillRect(0, 0, tile.width, tile.width);
    pen.scale(devicePixelRatio, devicePixelRatio); pen.strokeStyle = hue; pen.lineCap = "round"; pen.lineWidth = n ? 1.2 : 3;
    pen.stroke(new Path2D(TEXTURES[n]));
    return pen.createPattern(tile, "repeat");
  };

  // ---- one picture
  const limits = (spec) => (u, low, high) => {
    const {min, max} = u.scales.x;
    if (spec.near && (max == null || (min <= u.data[0][0] && max >= u.data[0].at(-1)))) return spec.near;
    if (low == null) return [0, 1];
    if (spec.zero) return [0, high > 0 ? high * 1.1 : 1];
    const air = (high - low) * 0.08 || Math.abs(high) * 0.05 || 0.05;
    return [low - air, high + air];
  };
  const axis = (more) => ({
    stroke: () => colour("--faint"), font: "12px system-ui, sans-serif", ...more,
    grid: {stroke: () => colour("--line"), width: 1, show: more.side !== 1}, ticks: {show: false},
  });
  const lines = (u, spec) => {
    const {ctx, bbox} = u;
    ctx.save(); ctx.lineWidth = devicePixelRatio;
    for (const [at, kind] of spec.lines || []) {
      if (at < u.scales.x.min || at > u.scales.x.max) continue;
      ctx.strokeStyle = colour(kind === "event" ? "--c4" : "--faint");
      ctx.setLineDash(kind === "event" ? [2 * devicePixelRatio, 3 * devicePixelRatio] : []);
      ctx.beginPath();
      const x = u.valToPos(at, "x", true);
      ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
    }
    ctx.restore();
  };

  const options = (chart, width) => {
    const {spec} = chart;
    const one = (s) => ({
      label: s.label, stroke: () => colour(`--c${s.colour}`), dash: DASHES[s.dash || 0], width: s.faint ? 1 : 2,
      alpha: s.faint ? 0.35 : 1, show: !chart.off.has(s), points: {show: !!s.points, size: SIZES[s.dash || 0], fill: () => colour(`--c${s.colour}`), filter: (u, i, all) => all ? null : alone(u.data[i])},
    });
    const series = spec.series.map((s, i) => ({...one(s), ...(spec.stack && i < spec.stack ? {width: chart.xs.length > width ? 0 : 1} : {})}));
    const area = (i) => texture(i % 4, `--c${spec.series[i].colour}`);
    if (spec.stack) series[0].fill = area(0);
    const bands = Array.from({length: Math.max(0, (spec.stack || 0) - 1)}, (_, i) => ({series: [i + 2, i + 1], fill: area(i + 1)}));
    const count = spec.log ? (v) => v % 1024 ? short(v) : `${v / 1024}k` : short;  // 4k as in SEQ_LEN=4k
    const texts = (how) => (u, all) => all.map((v) => v == null ? "" : how(v));
    const name = {label: spec.x, labelSize: 18, labelGap: 0, labelFont: "12px system-ui, sans-serif"};
    const axes = [axis({values: texts(count), size: 28, ...name, ...(spec.log ? {} : {incrs: WHOLE})}), axis({values: texts(short), size: 56})];
    const scales = {x: {time: false, ...(spec.log ? {distr: 3, log: 2} : {})}, y: {range: limits(spec)}};
    if (spec.bits && width > 480) {
      scales.bits = {from: "y", range: (u, low, high) => [low / spec.bits, high / spec.bits]};
      axes.push(axis({scale: "bits", side: 1, size: 56, values: (u, all) => all.map(short)}));
    }
    return {
      width, height: chart.first ? 346 : 256, series: [{}, ...series], bands, axes, scales, legend: {show: false},
      cursor: {y: false, drag: {x: true, y: false, setScale: false}, points: {size: 8},
        dataIdx: (u, i, at, x) => i ? nearest(u.data[0], chart.curves[i - 1].xs[nearest(chart.curves[i - 1].xs, x)]) : at},
      hooks: {
        draw: [(u) => lines(u, spec)],
        setCursor: [(u) => { if (!moving && u.cursor.left >= 0) point(chart, u.posToVal(u.cursor.left, "x")); }],
        setSelect: [(u) => {
          const {left, width} = u.select;
          if (width > 4) view(chart, u.posToVal(left, "x"), u.posToVal(left + width, "x"));
          u.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
        }],
      },
    };
  };
  const draw = (chart) => {
    const all = chart.data[0], [min, max] = wide(all[0], all.at(-1), chart.spec.log), was = chart.u?.scales.x;
    chart.u?.destroy();
    chart.u = new uPlot(options(chart, chart.canvas.clientWidth), chart.data, chart.canvas);
    chart.u.setScale("x", {min: was?.min ?? min, max: was?.max ?? max});
    chart.u.over.addEventListener("dblclick", () => view(chart));
  };

  // ---- what is done in one picture is done in all that have the same axis
  const kin = (chart) => charts.filter((other) => !!other.spec.log === !!chart.spec.log);
  let moving = false;
  const view = (chart, low, high) => {
    for (const {u} of kin(chart)) {
      const all = u.data[0], [first, last] = wide(all[0], all.at(-1), chart.spec.log);
      const seen = Math.max((high ?? last) - (low ?? first), Math.min(2, last - first));
      const from = Math.max(first, Math.min(low ?? first, last - seen));
      u.setScale("x", {min: from, max: Math.min(last, from + seen)});
    }
  };
  const zoom = (chart, times, at) => {
    const {min, max} = chart.u.scales.x, middle = at ?? (min + max) / 2;
    view(chart, middle - (middle - min) * times, middle + (max - middle) * times);
  };
  const point = (chart, x) => {
    moving = true;
    const {xs} = chart, at = xs[nearest(xs, x)];
    for (const other of kin(chart)) {
      if (other !== chart || !chart.u.cursor.event) other.u.setCursor({left: other.u.valToPos(at, "x"), top: 1}, false);
      read(other, at);
    }
    moving = false;
  };
  const read = (chart, x) => {
    const said = chart.curves.map(({xs, ys}, i) => {
      const n = nearest(xs, x), s = chart.spec.series[i];
      const bits = chart.spec.bits && s.value == null && xs.length ? ` (${shown(ys[n] / chart.spec.bits)} bits)` : "";
      const whole = i < (chart.spec.stack || 0) ? chart.curves[chart.spec.stack].ys[nearest(chart.curves[chart.spec.stack].xs, x)] : 0;
      const share = whole > 0 && xs.length ? ` (${(100 * ys[n] / whole).toFixed(1)}%)` : "";  // of what is too thin to see as well
      const text = shown(ys[n]) + (chart.spec.series.length < 4 ? bits : "") + share + (s.value == null && xs.length && xs[n] !== x ? ` at ${short(xs[n])}` : "");
      chart.values[i].textContent = text;
      return `${s.label} ${text}`;
    });
    chart.at.textContent = `${chart.spec.x} ${shown(x)}`;
    const happened = chart.first ? numbers.events.filter(([at]) => at === x).map(([, text]) => text).join("; ") : "";
    if (chart.said) chart.said.textContent = happened;
    chart.scrub.value = nearest(chart.xs, x);
    chart.scrub.setAttribute("aria-valuetext", `${chart.spec.x} ${shown(x)}: ${said.join(", ")}${happened && `. ${happened}`}`);
  };

  const MARKS = {event: "what happened", line: "went on from another run"};

  // ---- set up: key, canvas, and a slider that the keyboard and screen readers move
  const entry = (chart, key, s, i) => {
    const button = make("button", {type: "button"}, key);
    const form = i < (chart.spec.stack || 0) ? `area area${i % 4}` : `line dash${s.dash || 0}${s.faint ? " faint" : ""}`;
    make("i", {className: form}, button).style.color = `var(--c${s.colour})`;
    make("span", {textContent: `${s.label} `}, button);
    chart.values[i] = make("b", {textContent: s.value != null ? shown(s.value) : ""}, button);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const on = chart.off.delete(s) || !chart.off.add(s);
      button.setAttribute("aria-pressed", String(on));
      chart.u.setSeries(i + 1, {show: on});
    });
  };
  const setUp = (figure, spec, number) => {
    const chart = {spec, off: new Set(), values: [], first: number === 0};
    chart.curves = spec.series.map(points);
    const own = chart.curves.filter((_, i) => spec.series[i].value == null);  // a mark has no iterations
    const xs = chart.xs = [...new Set(own.flatMap((curve) => curve.xs))].sort((a, b) => a - b);  // of any curve
    if (!xs.length) return;
    const heights = chart.curves.map(({all}) => all[1]);
    for (let i = 1; i < (spec.stack || 0); i++) heights[i] = heights[i].map((y, n) => y + heights[i - 1][n]);
    chart.data = uPlot.join(chart.curves.map(({all}, i) => [all[0], heights[i]]));
    figure.querySelector("img").remove(); figure.classList.add("live");
    const key = make("div", {className: "key"}, figure);
    chart.at = make("span", {className: "at"}, key);
    spec.series.forEach((s, i) => entry(chart, key, s, i));
    for (const kind of new Set((spec.lines || []).map(([, kind]) => kind))) {
      const mark = make("span", {className: "mark"}, key);
      make("i", {className: kind === "event" ? kind : ""}, mark); mark.append(MARKS[kind]);
    }
    if (chart.first && numbers.events.length) chart.said = make("p", {className: "said"}, figure);
    chart.canvas = make("div", {className: "canvas"}, figure);
    label(chart.canvas, {role: "img", "aria-label": `${spec.title} by ${spec.x}`});
    chart.scrub = make("input", {type: "range", className: "scrub", min: 0, max: xs.length - 1, step: 1}, figure);
    label(chart.scrub, {"aria-label": `${spec.title}: values along the curves`});
    chart.scrub.addEventListener("input", () => {
      const x = xs[chart.scrub.value], {min, max} = chart.u.scales.x;
      if (x < min || x > max) view(chart, x - (max - min) / 2, x + (max - min) / 2);
      point(chart, x);
    });
    chart.scrub.addEventListener("keydown", (event) => {
      const at = xs[chart.scrub.value];
      if (event.key === "+" || event.key === "=") zoom(chart, 0.5, at);
      else if (event.key === "-") zoom(chart, 2, at);
      else if (event.key === "0" || event.key === "Escape") view(chart);
    });
    charts.push(chart); draw(chart); read(chart, xs.at(-1));
    new ResizeObserver(() => { if (chart.canvas.clientWidth !== chart.u.width) draw(chart); }).observe(chart.canvas);
  };
  document.querySelectorAll("figure[data-chart]").forEach((figure) => {
    const number = Number(figure.dataset.chart);
    if (numbers.charts[number]) setUp(figure, numbers.charts[number], number);
  });
  const tools = document.querySelector(".tools");
  if (charts.length && tools) {
    tools.hidden = false;
    const acts = {"in": () => zoom(charts[0], 0.5), "out": () => zoom(charts[0], 2), "whole": () => view(charts[0])};
    tools.querySelectorAll("button").forEach((button) => button.addEventListener("click", acts[button.dataset.act]));
  }
  matchMedia("screen and (prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(draw));
})();

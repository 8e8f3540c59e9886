"use strict";
// Behaviour of the report: sortable table, values under the pointer on the training curves, and the embedding maps with
// their player. The page is readable without it; every text goes through textContent, so no label can become markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const tip = document.getElementById("tip");
  document.documentElement.classList.add("js");
  for (const element of document.querySelectorAll("[data-needs-js]")) element.hidden = false;

  const make = (name, attributes = {}, text = "") => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };
  const draw = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  function showTip(lines, x, y) {
    tip.replaceChildren(document.createTextNode(lines[0]), ...lines.slice(1).map((line) => make("span", {}, line)));
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = Math.max(6, Math.min(x + 14, document.documentElement.clientWidth - width - 6)) + "px";
    tip.style.top = (y - height - 12 > 4 ? y - height - 12 : y + 18) + "px";
  }
  const hideTip = () => { tip.hidden = true; };

  // ---- table ------------------------------------------------------------------------------------------------------
  function sortable(table) {
    const heads = [...table.querySelectorAll("th[data-column]")];
    const body = table.tBodies[0];
    const original = [...body.rows];
    const keyOf = (row, column) => row.cells[column].dataset.sort;
    for (const head of heads) {
      head.querySelector("button").addEventListener("click", () => {
        const column = Number(head.dataset.column);
        const text = head.dataset.kind === "text";
        // Numbers start with the largest; the third press returns to the order of the results.
        const cycle = text ? ["ascending", "descending", "none"] : ["descending", "ascending", "none"];
        const next = cycle[(cycle.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", next);
        const rows = [...original];
        if (next !== "none") {
          const sign = next === "ascending" ? 1 : -1;
          rows.sort((a, b) => {
            const x = keyOf(a, column), y = keyOf(b, column);
            if (text) return sign * x.localeCompare(y);
            if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured stays last
            return sign * (Number(x) - Number(y));
          });
        }
        body.replaceChildren(...rows);
      });
    }
  }
  for (const table of document.querySelectorAll("table.sortable")) sortable(table);

  // ---- training curves --------------------------------------------------------------------------------------------
  const number = (value) => (Math.abs(value) >= 0.01 || value === 0 ? value.toFixed(3) : value.toExponential(1));
  function readable(chart) {
    const svg = document.getElementById(chart.id);
    const [left, right, top, bottom] = chart.box;
    const last = chart.x.length - 1;
    const cursor = draw("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    svg.append(cursor);
    const show = (event) => {
      const frame = svg.getBoundingClientRect();
      const x = ((event.clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width;
      const wanted = chart.from + ((x - left) / (right - left)) * (chart.to - chart.from);
      let i = chart.x.findIndex((step) => step >= wanted);
      if (i < 0) i = last;
      if (i > 0 && wanted - chart.x[i - 1] < chart.x[i] - wanted) i -= 1;
      const at = left + ((chart.x[i] - chart.from) / (chart.to - chart.from || 1)) * (right - left);
      cursor.setAttribute("x1", at);
      cursor.setAttribute("x2", at);
      cursor.setAttribute("visibility", "visible");
      const rows = chart.series.filter((one) => one.y[i] !== null).sort((a, b) => b.y[i] - a.y[i]);
      const lines = rows.slice(0, 14).map((one) => `${one.name}: ${number(one.y[i])}`);
      showTip([`step ${chart.x[i]}`, ...lines], event.clientX, event.clientY);
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); hideTip(); });
  }
  for (const chart of data.curves) readable(chart);

  // ---- maps -------------------------------------------------------------------------------------------------------
  const R = 6;
  const SHAPES = [
    `M${-R} 0a${R} ${R} 0 1 0 ${2 * R} 0a${R} ${R} 0 1 0 ${-2 * R} 0z`,
    `M${-R + 1} ${-R + 1}h${2 * R - 2}v${2 * R - 2}h${2 - 2 * R}z`,
    `M0 ${-R - 1}L${R + 1} ${R - 1}H${-R - 1}z`,
    `M0 ${-R - 1.5}L${R + 1.5} 0L0 ${R + 1.5}L${-R - 1.5} 0z`,
    `M0 ${R + 1}L${R + 1} ${1 - R}H${-R - 1}z`,
    "M-2.4-7h4.8v4.6h4.6v4.8h-4.6v4.6h-4.8v-4.6h-4.6v-4.8h4.6z",
    "M-6.6-3.4L-3.4-6.6L0-3.2L3.4-6.6L6.6-3.4L3.2 0L6.6 3.4L3.4 6.6L0 3.2L-3.4 6.6L-6.6 3.4L-3.2 0z",
  ];
  // Colour and shape both tell the label; 8 colours x 7 shapes give 56 different marks.
  const colour = (label) => `k${label % 8}`;
  const shape = (label) => SHAPES[((label % 8) + Math.floor(label / 8)) % SHAPES.length];

  function maps() {
    const select = document.getElementById("map-task");
    const panels = [...document.querySelectorAll("[data-panel]")];
    const labels = document.getElementById("map-labels");
    const facts = document.getElementById("map-facts");
    const output = document.getElementById("map-clip");
    const play = document.getElementById("map-play");
    let task = null, marks = [], chosen = -1, only = -1, sound = null, request = 0;

    const nameOf = (i) => task.labels[task.points[i].l];
    const hasPlayer = (i) => task.points[i].a >= 0;
    const linesOf = (i) => [nameOf(i), task.points[i].p, hasPlayer(i) ? (sound && i === chosen ? "Playing" : "Press to play") : "No player for this clip"];

    function stop() {
      request += 1;
      if (sound) sound.pause();
      sound = null;
      play.textContent = "Play";
    }
    function start() {
      document.dispatchEvent(new Event("report:stop")); // whatever else plays on the page
      if (chosen < 0 || !hasPlayer(chosen)) return;
      const mine = request;
      sound = new Audio(`data:${data.mime};base64,${data.audio[task.points[chosen].a]}`);
      sound.addEventListener("ended", stop);
      play.textContent = "Stop";
      sound.play().catch((error) => {
        if (mine !== request) return; // stopped or replaced before it began
        stop();
        output.textContent = `${nameOf(chosen)}: this browser cannot play the clip (${error.name}).`;
      });
    }
    function choose(i) {
      if (i !== chosen) stop();
      chosen = i;
      output.textContent = i < 0 ? output.dataset.empty : `${nameOf(i)} \u00b7 ${task.points[i].p}${hasPlayer(i) ? "" : " (no player)"}`;
      play.parentElement.classList.toggle("chosen", i >= 0);
      play.disabled = i < 0 || !hasPlayer(i);
      panels.forEach((panel, p) => {
        const halo = panel.querySelector(".halo");
        const mark = i < 0 ? null : marks[p][i];
        halo.setAttribute("visibility", mark ? "visible" : "hidden");
        if (mark) halo.setAttribute("transform", mark.getAttribute("transform"));
      });
    }
    function isolate(label) {
      only = label === only ? -1 : label;
      [...labels.querySelectorAll("button")].forEach((button, l) => button.setAttribute("aria-pressed", String(l === only)));
      for (const row of marks) row.forEach((mark, i) => mark.classList.toggle("dim", only >= 0 && task.points[i].l !== only));
    }
    const visible = (i) => only < 0 || task.points[i].l === only;

    function nearest(p, event) {
      const svg = panels[p].querySelector("svg");
      const frame = svg.getBoundingClientRect();
      const scale = 1000 / frame.width;
      const x = (event.clientX - frame.left) * scale, y = (event.clientY - frame.top) * scale;
      const xy = task.panels[p].xy;
      let best = -1, least = (22 * scale) ** 2;
      for (let i = 0; i < task.points.length; i += 1) {
        const distance = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
        if (distance < least && visible(i)) { least = distance; best = i; }
      }
      return best;
    }
    // Arrow keys walk to the closest clip that lies mostly in that direction.
    function neighbour(p, from, dx, dy) {
      const xy = task.panels[p].xy;
      let best = -1, least = Infinity;
      for (let i = 0; i < task.points.length; i += 1) {
        if (i === from || !visible(i)) continue;
        const x = xy[2 * i] - xy[2 * from], y = xy[2 * i + 1] - xy[2 * from + 1];
        const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
        if (along <= 0 || across > along * 2) continue;
        if (along + across < least) { least = along + across; best = i; }
      }
      return best;
    }
    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    function listen(panel, p) {
      const ready = () => task.panels[p].xy.length > 0;
      panel.addEventListener("pointermove", (event) => {
        const i = ready() ? nearest(p, event) : -1;
        if (i < 0) hideTip(); else showTip(linesOf(i), event.clientX, event.clientY);
      });
      panel.addEventListener("pointerleave", hideTip);
      panel.addEventListener("click", (event) => {
        const i = ready() ? nearest(p, event) : -1;
        if (i < 0) { choose(-1); hideTip(); return; }
        choose(i);
        start();
        showTip(linesOf(i), event.clientX, event.clientY);
      });
      panel.addEventListener("keydown", (event) => {
        if (!ready()) return;
        if (event.key in ARROWS) {
          event.preventDefault();
          const next = chosen < 0 ? task.points.findIndex((_, i) => visible(i)) : neighbour(p, chosen, ...ARROWS[event.key]);
          if (next >= 0) choose(next);
        } else if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          if (sound) stop(); else start();
        } else if (event.key === "Escape") { stop(); hideTip(); }
      });
    }
    function plot(panel, p) {
      const svg = panel.querySelector("svg");
      const xy = task.panels[p].xy;
      const points = xy.length ? task.points : [];
      const row = points.map((point, i) => draw("path", {
        d: shape(point.l), transform: `translate(${xy[2 * i]} ${xy[2 * i + 1]}) scale(2)`,
        class: `m ${colour(point.l)}${hasPlayer(i) ? "" : " mute"}`,
      }));
      const halo = draw("circle", { class: "halo", r: 11, visibility: "hidden" });
      svg.replaceChildren(...row, halo);
      panel.closest("figure").querySelector("[data-score]").textContent = task.panels[p].note;
      panel.setAttribute("aria-label", `${task.panels[p].name}: map of ${points.length} clips of ${task.task}. Arrow keys walk between clips, Enter plays.`);
      return row;
    }
    function swatch(label) {
      const svg = draw("svg", { viewBox: "-8 -8 16 16", width: 12, height: 12, "aria-hidden": "true" });
      svg.append(draw("path", { d: shape(label), class: colour(label) }));
      return svg;
    }
    function open(index) {
      stop();
      hideTip();
      task = data.maps[index];
      only = -1;
      marks = panels.map(plot);
      labels.replaceChildren(...task.labels.map((label, l) => {
        const item = make("li"), button = make("button", { type: "button", "aria-pressed": "false" });
        button.append(swatch(l), document.createTextNode(`${label} (${task.counts[l]})`));
        button.addEventListener("click", () => isolate(l));
        item.append(button);
        return item;
      }));
      facts.textContent = task.facts;
      choose(-1);
    }
    document.addEventListener("report:stop", stop);
    panels.forEach(listen);
    play.addEventListener("click", () => { if (sound) stop(); else start(); });
    select.addEventListener("change", () => open(select.selectedIndex));
    open(select.selectedIndex);
  }
  if (data.maps.length) maps();
  document.addEventListener("scroll", hideTip, { passive: true });
})();

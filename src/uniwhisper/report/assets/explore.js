"use strict";
// Confusion matrices and the browser of misjudged clips. Reads the same data as report.js; every text goes through
// textContent, so no label can become markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("report-data").textContent);

  const make = (name, attributes = {}, text = "") => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };
  const draw = (name, attributes, text = "") => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };
  const percent = (part, whole) => `${((100 * part) / (whole || 1)).toFixed(1)}\u00a0%`;
  const option = (text) => make("option", {}, text);

  // Two selects: a task, and which of its views; `show` gets both. The view stays chosen where the next task has it.
  function choices(name, tasks, label, show) {
    const task = document.getElementById(`${name}-task`), view = document.getElementById(`${name}-view`);
    const open = () => {
      const wanted = view.value;
      const one = tasks[task.selectedIndex];
      view.replaceChildren(...one.views.map((each) => option(label(each))));
      const at = [...view.options].findIndex((each) => each.value === wanted);
      view.selectedIndex = at < 0 ? view.options.length - 1 : at;
      show(one, one.views[view.selectedIndex]);
    };
    task.replaceChildren(...tasks.map((one) => option(one.title)));
    task.addEventListener("change", open);
    view.addEventListener("change", () => show(tasks[task.selectedIndex], tasks[task.selectedIndex].views[view.selectedIndex]));
    open();
  }

  // ---- confusion matrices -----------------------------------------------------------------------------------------
  const CELL = 16, LETTER = 6, MOST_LETTERS = 18, MOST_NAMED = 32;
  function confusions() {
    const box = document.getElementById("confusion-matrix"), words = document.getElementById("confusion-cell");
    const pairs = document.getElementById("confusion-pairs"), facts = document.getElementById("confusion-facts");

    function matrix(task, view) {
      const count = task.classes.length, named = count <= MOST_NAMED;
      const short = (name) => (name.length > MOST_LETTERS ? `${name.slice(0, MOST_LETTERS - 1)}\u2026` : name);
      const longest = Math.max(...task.classes.map((name) => short(name).length));
      const left = named ? 10 + longest * LETTER : 4, top = left, side = count * CELL;
      const svg = draw("svg", {
        viewBox: `0 0 ${left + side + 4} ${top + side + 4}`, role: "img",
        "aria-label": `Confusion matrix of ${task.title}, ${count} classes; the most frequent mistakes are listed below`,
      });
      svg.style.maxWidth = `${Math.round((left + side + 4) * 1.4)}px`;
      svg.append(draw("rect", { class: "field", x: left, y: top, width: side, height: side }));
      for (let i = 0; named && i < count; i += 1) {
        const x = left + (i + 0.5) * CELL, y = top + (i + 0.5) * CELL;
        svg.append(draw("text", { class: "name", x: left - 5, y: y + 3.5, "text-anchor": "end" }, short(task.classes[i])));
        svg.append(draw("text", { class: "name", x: 0, y: 0, transform: `translate(${x + 3.5} ${top - 5}) rotate(-90)` }, short(task.classes[i])));
      }
      for (let i = 0; i < view.cells.length; i += 3) {
        const [truth, guess, number] = view.cells.slice(i, i + 3);
        const share = number / (view.totals[truth] || 1);
        const cell = draw("rect", {
          class: truth === guess ? "hit" : "miss", x: left + guess * CELL + 0.5, y: top + truth * CELL + 0.5,
          width: CELL - 1, height: CELL - 1, "fill-opacity": Math.max(0.06, Math.sqrt(share)).toFixed(2),
        });
        const text = truth === guess
          ? `${task.classes[truth]}: right ${number} of ${view.totals[truth]} times (${percent(number, view.totals[truth])})`
          : `${task.classes[truth]} taken for ${task.classes[guess]}: ${number} of ${view.totals[truth]} times (${percent(number, view.totals[truth])})`;
        cell.append(draw("title", {}, text));
        const say = () => { words.textContent = text; };
        cell.addEventListener("pointerenter", say);
        cell.addEventListener("click", say);
        svg.append(cell);
      }
      return svg;
    }
    choices("confusion", data.confusions, (view) => view.name, (task, view) => {
      box.replaceChildren(...(view.cells.length ? [matrix(task, view)] : []));
      words.textContent = view.cells.length ? words.dataset.empty : `${task.classes.length} classes are too many for a matrix; these are the most frequent mistakes.`;
      pairs.replaceChildren(...view.pairs.map(([truth, guess, number]) => {
        const row = make("tr");
        row.append(make("td", {}, task.classes[truth]), make("td", {}, task.classes[guess]),
          make("td", { class: "number" }, String(number)), make("td", { class: "number" }, percent(number, view.totals[truth])));
        return row;
      }));
      pairs.closest("table").hidden = view.pairs.length === 0;
      const seeds = view.seeds > 1 ? `, ${view.seeds} probe seeds added up` : "";
      facts.textContent = `${task.classes.length} classes${seeds}. ${view.pairs.length ? "" : "Nothing was mistaken."}`;
    });
  }

  // ---- misjudged clips --------------------------------------------------------------------------------------------
  const FIRST = 8;
  function errors() {
    const list = document.getElementById("error-list"), more = document.getElementById("error-more");
    const facts = document.getElementById("error-facts");
    let sound = null, playing = null;

    function stop() {
      if (sound) sound.pause();
      if (playing) playing.setAttribute("aria-pressed", "false");
      sound = playing = null;
    }
    function toggle(button, index) {
      const again = playing === button;
      document.dispatchEvent(new Event("report:stop"));
      if (again) return;
      const mine = new Audio(`data:${data.mime};base64,${data.audio[index]}`);
      sound = mine;
      playing = button;
      button.setAttribute("aria-pressed", "true");
      mine.addEventListener("ended", () => { if (sound === mine) stop(); });
      mine.play().catch((error) => {
        if (sound !== mine) return;
        stop();
        button.textContent = `cannot play (${error.name})`;
        button.disabled = true;
      });
    }
    document.addEventListener("report:stop", stop);

    function player(name, labels, index) {
      if (index < 0) return make("span", { class: "mute", title: "no player for this clip" }, "\u2013");
      const button = make("button", { type: "button", class: "play", "aria-pressed": "false", "aria-label": `Play ${labels}: ${name}` });
      button.addEventListener("click", () => toggle(button, index));
      return button;
    }
    function line(name, labels, index, similarity) {
      const item = make("li"), words = make("span", { class: "words" });
      words.append(make("strong", {}, labels), make("small", {}, name));
      item.append(player(name, labels, index), words);
      if (similarity !== null) item.append(make("span", { class: "similarity", title: "cosine similarity" }, similarity.toFixed(3)));
      return item;
    }
    function card(error) {
      const article = make("article", { class: "card" });
      const head = make("h3");
      head.append(document.createTextNode(error.t), make("span", { class: "arrow" }, " taken for "), document.createTextNode(error.g));
      const clip = make("ul", { class: "clips" }), near = make("ul", { class: "clips" });
      clip.append(line(error.w, error.t, error.a, null));
      near.append(...error.n.map(([name, labels, similarity, index]) => line(name, labels, index, similarity)));
      article.append(head, clip, make("p", { class: "note" }, "Nearest clips of the training part"), near);
      return article;
    }
    choices("error", data.errors, (view) => view.name, (task, view) => {
      document.dispatchEvent(new Event("report:stop"));
      list.replaceChildren(...view.items.slice(0, FIRST).map(card));
      more.hidden = view.items.length <= FIRST;
      more.textContent = `Show ${view.items.length - FIRST} more`;
      more.onclick = () => {
        list.append(...view.items.slice(FIRST).map(card));
        more.hidden = true;
        list.children[FIRST].querySelector("button")?.focus();
      };
      const all = view.items.length < view.wrong ? `; ${view.items.length} of them here, spread over the classes` : "";
      facts.textContent = view.wrong
        ? `${view.wrong} of ${view.clips} test clips were voted into a wrong class (${percent(view.wrong, view.clips)})${all}.`
        : `None of ${view.clips} test clips was voted into a wrong class.`;
    });
  }
  if (data.confusions.length) confusions();
  if (data.errors.length) errors();
})();

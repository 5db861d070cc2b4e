// The side panel: classes, one class, the selection, one image.

import { counted, make, said } from "./dom.js";

const AT_ONCE = 240; // pictures of a grid; a button shows more
const STRIP = 5; // surest pictures of a class in the list
const ENDS = 12; // surest and least sure images of a class
const LISTED = 300; // classes of the list; further ones are found by the search

export class Panel {
  /**
   * @param root the element
   * @param app what the page can do: see main.js
   */
  constructor(root, app) {
    this.root = root;
    this.app = app;
    this.unpainted = new Set();
    this.view = { kind: "classes" };
  }

  show(view, { focus = true } = {}) {
    this.view = view;
    this.render();
    if (focus) this.root.querySelector("h2")?.focus();
  }

  render() {
    const { kind } = this.view;
    const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const scroll = this.root.scrollTop;
    this.unpainted.clear();
    const parts = { classes: this.classes, class: this.oneClass, selection: this.selection, image: this.image };
    this.root.replaceChildren(...parts[kind].call(this).filter((part) => part != null));
    this.root.scrollTop = this.rendered === kind ? scroll : 0;
    this.rendered = kind;
    if (focused) this.root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    for (const tab of document.querySelectorAll("#tabs button"))
      tab.setAttribute("aria-pressed", String(tab.dataset.view === (kind === "class" ? "classes" : kind)));
  }

  /** Paint the pictures whose sheet has come meanwhile. */
  repaint() {
    for (const one of [...this.unpainted]) if (one()) this.unpainted.delete(one);
  }

  heading(text, ...more) {
    return make("h2", { tabindex: "-1" }, text, ...more);
  }

  picture(row, attributes = {}) {
    const canvas = make("canvas", { class: "picture", "aria-hidden": "true", ...attributes });
    if (this.app.sheets.side && this.app.sheets.side < 24) canvas.classList.add("squares");
    const paint = () => this.app.sheets.paint(canvas, row);
    if (!paint()) this.unpainted.add(paint);
    return canvas;
  }

  tile(row, note) {
    const { app } = this;
    const about = [app.nameOf(row), `class ${app.edits.groupOf(row).name}`, app.edits.isWrong(row) ? "wrong" : ""];
    return make(
      "button",
      {
        class: app.edits.isWrong(row) ? "tile wrong" : "tile",
        title: app.pathOf(row),
        "aria-label": about.filter(Boolean).join(", "),
        "data-key": `tile-${row}`,
        onclick: (event) => (event.ctrlKey || event.metaKey ? app.toggle(row) : app.open(row)),
      },
      this.picture(row),
      note ? make("span", { class: "note" }, note) : null,
    );
  }

  grid(rows, note) {
    const list = make("div", { class: "grid" });
    const more = make("button", { class: "more" });
    let shown = 0;
    const extend = () => {
      list.append(...rows.slice(shown, shown + AT_ONCE).map((row) => this.tile(row, note?.(row))));
      shown = Math.min(rows.length, shown + AT_ONCE);
      more.textContent = `Show more of ${counted(rows.length, "image")}`;
      more.hidden = shown >= rows.length;
    };
    more.addEventListener("click", extend);
    extend();
    return make("div", {}, list, more);
  }

  swatch(colour) {
    const mark = make("span", { class: "swatch", "aria-hidden": "true" });
    mark.style.background = colour;
    return mark;
  }

  /** A field for the name of a class, and a button that does something with it. */
  naming(key, label, word, act, value = "") {
    const field = make("input", {
      type: "text", maxlength: "100", list: "names", "aria-label": label, placeholder: label, "data-key": key,
      autocomplete: "off",
    });
    field.value = value;
    const submit = (event) => {
      event.preventDefault();
      const name = field.value.trim();
      if (name) act(name);
      else field.focus();
    };
    return make("form", { class: "naming", onsubmit: submit }, field, make("button", {}, word));
  }

  legend() {
    const { legend } = this.app.colouring;
    if (!legend) return null;
    if (legend.ramp) {
      const bar = make("div", { class: "ramp", "aria-hidden": "true" });
      return make("div", { class: "legend" }, bar, make("div", { class: "ends" }, said(legend.low), said(legend.high)));
    }
    const entries = legend.slice(0, LISTED).map(({ kind, count, colour }) =>
      make(
        "button",
        { class: "entry", "data-key": `legend-${kind}`, onclick: () => this.app.selectKind(kind) },
        this.swatch(colour), make("span", { class: "name" }, said(kind)), make("span", { class: "count" }, count),
      ),
    );
    return make("section", { class: "legend" }, make("h3", {}, said(this.app.colouring.title)), ...entries);
  }

  classes() {
    const { app } = this;
    if (!app.facts.likely && app.edits.groups.length < 2)
      return [
        this.heading(app.text.classes),
        make("p", { class: "quiet" }, "This run's method finds no classes. Select images and move them to classes of your own."),
        this.legend(),
      ];
    const wanted = app.search.toLowerCase();
    const groups = app.edits.groups.filter((one) => !wanted || app.anyFound(one) || one.name.toLowerCase().includes(wanted));
    const list = groups.slice(0, LISTED).map((one) =>
      make(
        "button",
        { class: "class", "data-key": `class-${one.name}`, onclick: () => app.showClass(one.name) },
        make("span", { class: "head" }, this.swatch(app.colourOfGroup(one)),
          make("span", { class: "name" }, said(one.name)), make("span", { class: "count" }, one.rows.length)),
        make("span", { class: "strip" }, ...app.surest(one.rows, STRIP).map((row) => this.picture(row))),
      ),
    );
    const hidden = groups.length - list.length;
    return [
      this.heading(app.text.classes, " ", make("span", { class: "quiet" }, counted(app.edits.groups.length, "class"))),
      app.colouring.key === "class" ? null : this.legend(),
      make("div", { class: "list" }, ...list),
      hidden > 0 ? make("p", { class: "quiet" }, `${hidden} smaller classes are not listed; search for their images.`) : null,
    ];
  }

  oneClass() {
    const { app } = this;
    const group = app.edits.named(this.view.name);
    if (!group) return this.classes();
    const sure = app.bySureness(group.rows), share = (row) => app.certainty(row).toFixed(2);
    const wrong = group.rows.filter((row) => app.edits.isWrong(row));
    const others = app.edits.groups.filter((one) => one !== group);
    const into = make("select", { "aria-label": "Merge into", "data-key": "into" },
      make("option", { value: "" }, "Merge into…"), ...others.slice(0, 1000).map((one) => make("option", { value: one.name }, one.name)));
    into.addEventListener("change", () => into.value && app.merge(group, app.edits.named(into.value)));
    return [
      make("button", { class: "back", "data-key": "back", onclick: () => app.showClasses() }, "← All classes"),
      this.heading(this.swatch(app.colourOfGroup(group)), " ", said(group.name)),
      make("p", { class: "quiet" }, `${counted(group.rows.length, "image")}${wrong.length ? `, ${wrong.length} marked as wrong` : ""}`),
      this.naming("rename", "New name", "Rename", (name) => app.rename(group, name), group.name),
      make("div", { class: "row" },
        others.length ? into : null,
        make("button", { "data-key": "split", onclick: () => app.split(group) }, "Split"),
        make("button", { "data-key": "select", onclick: () => app.select(group.rows) }, "Select all")),
      make("h3", {}, "Surest"),
      this.grid(sure.slice(0, ENDS), share),
      sure.length > ENDS ? make("h3", {}, "Least sure") : null,
      sure.length > ENDS ? this.grid(sure.slice(ENDS).slice(-ENDS).reverse(), share) : null,
      wrong.length ? make("h3", {}, "Marked as wrong") : null,
      wrong.length ? this.grid(wrong) : null,
    ];
  }

  selection() {
    const { app } = this;
    const rows = app.bySureness([...app.map.selected]);
    if (!rows.length)
      return [
        this.heading("Selection"),
        make("p", { class: "quiet" },
          "Nothing is selected. Draw around images with the lasso (L, or hold Shift), press Select all in a class, or Ctrl-click an image."),
      ];
    const counts = new Map();
    for (const row of rows) counts.set(app.edits.groupOf(row), (counts.get(app.edits.groupOf(row)) ?? 0) + 1);
    const kinds = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 40);
    const wrong = rows.filter((row) => app.edits.isWrong(row)).length;
    return [
      this.heading(counted(rows.length, "image"), " selected"),
      make("div", { class: "kinds" }, ...kinds.map(([one, count]) =>
        make("button", { class: "kind", onclick: () => app.showClass(one.name) }, this.swatch(app.colourOfGroup(one)), said(one.name), make("span", { class: "count" }, count)))),
      this.naming("move", "Move to class", "Move", (name) => app.move(rows, name)),
      make("div", { class: "row" },
        wrong < rows.length ? make("button", { "data-key": "wrong", onclick: () => app.mark(rows, true) }, "Mark as wrong") : null,
        wrong ? make("button", { "data-key": "right", onclick: () => app.mark(rows, false) }, "Not wrong") : null,
        make("button", { "data-key": "export", onclick: () => app.exportPaths(rows) }, "Export paths"),
        make("button", { "data-key": "clear", onclick: () => app.select([]) }, "Clear")),
      this.grid(rows),
    ];
  }

  image() {
    const { app } = this;
    const { row } = this.view;
    if (row === undefined || row < 0)
      return [this.heading("Image"), make("p", { class: "quiet" }, "Click an image on the map, or press Enter for the one in the middle.")];
    const group = app.edits.groupOf(row), wrong = app.edits.isWrong(row), moved = app.edits.now.moved.has(row);
    const near = app.neighbours ? app.neighbours(row) : [];
    const likely = app.likely(row);
    return [
      this.heading(said(app.nameOf(row))),
      this.large(row),
      make("p", { class: "path" }, said(app.pathOf(row))),
      make("p", {}, "Class ", make("button", { class: "kind", onclick: () => app.showClass(group.name) },
        this.swatch(app.colourOfGroup(group)), said(group.name)),
        moved ? make("span", { class: "quiet" }, " moved by hand") : null,
        wrong ? make("strong", {}, " wrong") : null),
      likely.length ? make("table", { class: "likely" },
        make("caption", {}, "Likeliest classes"),
        make("tbody", {}, ...likely.map(({ name, probability }) => make("tr", {},
          make("th", { scope: "row" }, said(name)), make("td", {}, probability.toFixed(2)),
          make("td", { class: "bar" }, this.bar(probability)))))) : null,
      app.facts_of(row).length ? make("dl", { class: "facts" }, ...app.facts_of(row).flatMap(([key, value]) => [
        make("dt", {}, said(key)), make("dd", {}, said(value))])) : null,
      this.naming("move", "Move to class", "Move", (name) => app.move([row], name)),
      make("div", { class: "row" },
        make("button", { "data-key": "wrong", onclick: () => app.mark([row], !wrong) }, wrong ? "Not wrong" : "Mark as wrong"),
        make("button", { "data-key": "toggle", onclick: () => app.toggle(row) }, app.map.selected.has(row) ? "Deselect" : "Select"),
        make("button", { "data-key": "goto", onclick: () => app.goTo(row) }, "Show on map")),
      near.length ? make("h3", {}, "Nearest neighbours") : null,
      near.length ? this.grid(near.map((one) => one.row), (one) => near.find((other) => other.row === one).similarity.toFixed(2)) : null,
      near.length ? make("div", { class: "row" }, make("button", { "data-key": "select-near",
        onclick: () => app.select([row, ...near.map((one) => one.row)]) }, "Select these")) : null,
    ];
  }

  bar(share) {
    const bar = make("span", {});
    bar.style.width = `${Math.round(100 * share)}%`;
    return bar;
  }

  /** The picture: whole from the disk where the page is served, else as large as the file holds it. */
  large(row) {
    if (!this.app.facts.pictures) return null;
    if (!this.app.facts.served) return this.picture(row, { class: "picture large" });
    const image = make("img", { class: "large", alt: "", src: `picture/${row}` });
    image.addEventListener("error", () => image.replaceWith(this.picture(row, { class: "picture large" })));
    return image;
  }
}

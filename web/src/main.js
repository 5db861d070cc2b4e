// The explorer: reads what the page holds, wires map, panel and edits together.

import { Camera } from "./camera.js";
import { byKinds, byNumbers, ramp } from "./colours.js";
import * as data from "./data.js";
import { announce, byId, counted, download, make } from "./dom.js";
import { Edits } from "./edits.js";
import { ImageMap } from "./map.js";
import { Panel } from "./panel.js";
import { steer } from "./pointer.js";
import { Sheets } from "./sheets.js";
import { asNumbers, joined } from "./table.js";

const NO_LABEL = 0xffff;
const SHOWN = 3; // likeliest classes of an image

class App {
  constructor(facts, points) {
    this.facts = facts;
    this.data = points;
    this.text = { classes: "Classes" };
    this.search = "";
    this.tables = [];
    this.saving = Promise.resolve();
    this.pending = 0;
    this.edits = new Edits(points, data.startOfEdits());
    this.saved = this.edits.now;
    this.camera = new Camera();
    const canvas = byId("map");
    this.camera.fit(canvas.clientWidth, canvas.clientHeight);
    this.sheets = new Sheets(facts.sheets, facts.served, () => {
      this.map.draw();
      this.panel.repaint();
    });
    this.map = new ImageMap(canvas, points, this.camera, this.sheets);
    this.panel = new Panel(byId("panel"), this);
    this.lassoing = false;
    this.fillModes();
    this.recolour("class");
    this.panel.show({ kind: "classes" }, { focus: false });
    this.wire();
    this.refreshButtons();
  }

  // What is known of an image.

  nameOf(row) {
    return this.paths ? this.paths.name(row) : `image ${row + 1}`;
  }

  pathOf(row) {
    return this.paths ? this.paths.of(row) : "";
  }

  certainty(row) {
    return this.facts.likely ? this.data.probability[row * this.facts.likely] / 65535 : 1;
  }

  likely(row) {
    const found = [];
    for (let at = row * this.facts.likely; at < (row + 1) * this.facts.likely; at++) {
      const name = this.edits.nameOf(this.data.classes[at]), probability = this.data.probability[at] / 65535;
      const known = found.find((one) => one.name === name);
      if (known) known.probability += probability;
      else found.push({ name, probability });
    }
    return found.sort((one, other) => other.probability - one.probability).slice(0, SHOWN);
  }

  label(row) {
    return this.data.label[row] === NO_LABEL ? null : this.facts.labels[this.data.label[row]];
  }

  facts_of(row) {
    const columns = this.tables.map(({ name, values }) => [name, values[row]]);
    const finding = this.facts.findings[row];
    return [["Label", this.label(row)], ["Check", finding], ...columns].filter(([, value]) => value != null);
  }

  bySureness(rows) {
    return [...rows].sort((one, other) => this.certainty(other) - this.certainty(one) || one - other);
  }

  // Colours.

  fillModes() {
    const modes = [["class", "Class"]];
    if (this.facts.likely) modes.push(["certainty", "Certainty"]);
    if (this.facts.labels.length) modes.push(["label", "Label"]);
    if (Object.keys(this.facts.findings).length) modes.push(["check", "Check: duplicates, odd files"]);
    this.tables.forEach(({ name }, number) => modes.push([`table-${number}`, name]));
    modes.push(["edited", "Your edits"]);
    byId("colour").replaceChildren(...modes.map(([value, text]) => make("option", { value }, text)));
  }

  recolour(key = this.colouring.key) {
    const rows = Array.from({ length: this.data.count }, (_, row) => row);
    const numbers = { certainty: () => rows.map((row) => this.certainty(row)) };
    const kinds = {
      class: () => rows.map((row) => this.edits.groupOf(row).name),
      label: () => rows.map((row) => this.label(row)),
      check: () => rows.map((row) => this.facts.findings[row] ?? null),
      edited: () => rows.map((row) => (this.edits.isWrong(row) ? "wrong" : this.edits.now.moved.has(row) ? "moved" : null)),
    };
    const table = this.tables[Number(key.split("-")[1])];
    if (table) {
      const found = asNumbers(table.values);
      if (found) numbers[key] = () => found;
      else kinds[key] = () => Array.from(table.values, (value) => value ?? null);
    }
    const title = [...byId("colour").options].find((one) => one.value === key)?.textContent;
    if (numbers[key]) {
      const by = byNumbers(numbers[key]());
      const shown = (number) => Number(number.toPrecision(4)).toString();
      this.colouring = { key, title, of: by.of, legend: { ramp: true, low: shown(by.low), high: shown(by.high) } };
    } else {
      const by = byKinds(kinds[key]());
      this.colouring = { key, title, of: by.of, legend: by.legend, rowsOf: by.rowsOf };
    }
    byId("colour").value = key;
    this.map.paint(this.colouring.of);
  }

  colourOfGroup(group) {
    return this.colouring.key === "class" && group.rows.length ? this.colouring.of(group.rows[0]) : "#8b8f96";
  }

  selectKind(kind) {
    this.select(this.colouring.rowsOf(kind));
  }

  // Where the user is.

  open(row) {
    this.map.current = row;
    this.map.draw();
    if (row < 0) return;
    this.panel.show({ kind: "image", row }, { focus: false });
    announce(`${this.nameOf(row)}, class ${this.edits.groupOf(row).name}, certainty ${this.certainty(row).toFixed(2)}`);
  }

  showClasses() {
    this.map.current = -1;
    this.map.draw();
    this.panel.show({ kind: "classes" });
  }

  showClass(name) {
    this.panel.show({ kind: "class", name });
  }

  goTo(row) {
    this.camera.goTo(this.data.x[row], this.data.y[row]);
    this.map.current = row;
    this.map.draw();
  }

  select(rows, add = false) {
    this.map.selected = new Set(add ? [...this.map.selected, ...rows] : rows);
    this.map.draw();
    this.panel.show({ kind: "selection" });
    this.refreshButtons();
    announce(`${counted(this.map.selected.size, "image")} selected`);
  }

  toggle(row) {
    if (row < 0) return;
    if (!this.map.selected.delete(row)) this.map.selected.add(row);
    this.map.draw();
    this.panel.render();
    this.refreshButtons();
    announce(`${this.nameOf(row)} ${this.map.selected.has(row) ? "selected" : "not selected"}`);
  }

  anyFound(group) {
    return this.map.shown !== null && group.rows.some((row) => this.map.shown[row]);
  }

  find(text) {
    this.search = text.trim();
    const wanted = this.search.toLowerCase();
    if (!wanted || !this.paths) this.map.shown = null;
    else {
      this.map.shown = new Uint8Array(this.data.count);
      for (let row = 0; row < this.data.count; row++)
        if (this.pathOf(row).toLowerCase().includes(wanted)) this.map.shown[row] = 1;
    }
    const found = this.map.shown ? this.map.shown.reduce((sum, one) => sum + one, 0) : this.data.count;
    byId("found").textContent = this.map.shown ? counted(found, "match") : "";
    this.map.draw();
    if (this.panel.view.kind === "classes") this.panel.render();
  }

  // Edits.

  edited(text) {
    this.recolour();
    this.panel.render();
    this.refreshButtons();
    this.fillNames();
    announce(text);
    if (this.facts.served) this.sendEdits();
  }

  rename(group, name) {
    if (name === group.name) return;
    if (this.edits.named(name)) return this.merge(group, this.edits.named(name));
    this.edits.rename(group, name);
    this.panel.view = { kind: "class", name };
    this.edited(`Class ${group.name} is now ${name}`);
  }

  merge(group, into) {
    this.edits.merge(group, into);
    this.panel.view = { kind: "class", name: into.name };
    this.edited(`Class ${group.name} was merged into ${into.name}`);
  }

  split(group) {
    if (!this.edits.split(group)) return announce(`${group.name} can't be split: its images are too few or all alike`);
    this.panel.view = { kind: "classes" };
    this.edited(`Class ${group.name} was split`);
  }

  move(rows, name) {
    this.edits.move(rows, name);
    this.edited(`${counted(rows.length, "image")} moved to ${name}`);
  }

  mark(rows, wrong) {
    this.edits.mark(rows, wrong);
    this.edited(`${counted(rows.length, "image")} marked as ${wrong ? "wrong" : "not wrong"}`);
  }

  undo() {
    if (this.edits.undo()) this.edited("Undone");
  }

  redo() {
    if (this.edits.redo()) this.edited("Done again");
  }

  save() {
    const changes = this.edits.difference((row) => this.pathOf(row));
    const text = JSON.stringify({ gemel_edits: 1, run: this.facts.run, ...changes }, null, 1);
    download(`edits-${this.facts.file_name}.json`, text, "application/json");
    this.saved = this.edits.now;
    this.refreshButtons();
    announce("The edits are saved as a file; gemel classify RUN --edits FILE applies them");
  }

  /** Write what has changed since the last time into the run; one request after the other. */
  sendEdits() {
    this.pending += 1;
    this.saving = this.saving.then(async () => {
      await this.sendDifference();
      this.pending -= 1;
      this.refreshButtons();
    });
  }

  async sendDifference() {
    const now = this.edits.now;
    if (now === this.saved) return;
    const changes = this.edits.difference((row) => this.pathOf(row), this.saved);
    try {
      const body = JSON.stringify({ gemel_edits: 1, run: this.facts.run, ...changes });
      const answer = await fetch("edits", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      if (!answer.ok) throw new Error(await answer.text());
      this.saved = now; // what the run holds, whatever was undone meanwhile
      this.failed = "";
    } catch (error) {
      this.failed = `Not written to the run: ${error.message}`;
      announce(this.failed);
    }
  }

  exportPaths(rows) {
    download("paths.txt", rows.map((row) => `${this.pathOf(row)}\n`).join(""), "text/plain");
    announce(`${counted(rows.length, "path")} exported`);
  }

  async join(file) {
    try {
      const { found, columns } = joined(await file.text(), this.paths, this.data.count);
      const first = this.tables.length;
      this.tables.push(...columns);
      this.fillModes();
      if (columns.length) this.recolour(`table-${first}`);
      this.panel.show({ kind: "classes" });
      announce(`${file.name}: ${counted(found, "row")}, ${counted(columns.length, "column")}`);
    } catch (error) {
      announce(`${file.name}: ${error.message}`);
    }
  }

  // The page around it.

  refreshButtons() {
    byId("undo").disabled = !this.edits.past.length;
    byId("redo").disabled = !this.edits.future.length;
    const unsaved = this.edits.now !== this.saved && this.edits.changed;
    byId("save").disabled = !unsaved;
    byId("save").hidden = this.facts.served;
    byId("written").textContent = this.facts.served ? this.failed || (unsaved || this.pending ? "writing…" : "edits go into the run") : "";
    byId("selected").textContent = this.map.selected.size ? ` ${this.map.selected.size.toLocaleString("en")}` : "";
  }

  fillNames() {
    byId("names").replaceChildren(...this.edits.groups.slice(0, 1000).map((one) => make("option", { value: one.name })));
  }

  setLasso(on) {
    this.lassoing = on;
    byId("lasso").setAttribute("aria-pressed", String(on));
    byId("map").classList.toggle("lassoing", on);
  }

  hover(row, x, y) {
    const tip = byId("tip");
    tip.hidden = row < 0;
    if (row < 0) return;
    tip.textContent = `${this.nameOf(row)} · ${this.edits.groupOf(row).name}`;
    tip.style.transform = `translate(${Math.round(x + 14)}px, ${Math.round(y + 14)}px)`;
  }

  wire() {
    steer(this.map, {
      open: (row) => this.open(row),
      select: (row) => this.toggle(row),
      lasso: (rows, add) => {
        this.setLasso(false);
        this.select(rows, add);
      },
      hover: (row, x, y) => this.hover(row, x, y),
      lassoing: () => this.lassoing,
    });
    const at = (id, event, act) => byId(id).addEventListener(event, act);
    at("colour", "change", (event) => {
      this.recolour(event.target.value);
      if (event.target.value !== "class" && this.panel.view.kind !== "classes") this.showClasses();
      else this.panel.render();
    });
    at("search", "input", (event) => this.find(event.target.value));
    at("search", "keydown", (event) => {
      if (event.key === "Enter" && this.map.shown)
        this.select(Array.from(this.map.shown, (one, row) => (one ? row : -1)).filter((row) => row >= 0));
    });
    at("lasso", "click", () => this.setLasso(!this.lassoing));
    at("undo", "click", () => this.undo());
    at("redo", "click", () => this.redo());
    at("save", "click", () => this.save());
    at("whole", "click", () => {
      this.camera.fit(this.camera.width, this.camera.height);
      this.map.draw();
    });
    at("nearer", "click", () => (this.camera.zoom(1.5), this.map.draw()));
    at("farther", "click", () => (this.camera.zoom(1 / 1.5), this.map.draw()));
    at("join", "change", (event) => {
      if (event.target.files[0]) this.join(event.target.files[0]);
      event.target.value = "";
    });
    for (const tab of document.querySelectorAll("#tabs button"))
      tab.addEventListener("click", () => this.panel.show({ kind: tab.dataset.view, row: this.map.current }));
    window.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("beforeunload", (event) => {
      if (this.edits.now !== this.saved && this.edits.changed) event.preventDefault();
    });
    new ResizeObserver(() => this.map.resize()).observe(byId("map"));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.map.draw());
    byId("ramp").textContent = `.ramp { background: linear-gradient(90deg, ${[0, 0.2, 0.4, 0.6, 0.8, 1].map(ramp).join(", ")}); }`;
    this.fillNames();
  }

  key(event) {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    const command = event.ctrlKey || event.metaKey;
    const act = () => event.preventDefault();
    if (command && event.key.toLowerCase() === "z" && !typing) act(), event.shiftKey ? this.redo() : this.undo();
    else if (command && event.key.toLowerCase() === "s" && !this.facts.served) act(), this.save();
    else if (typing || command || event.altKey) return;
    else if (event.key.toLowerCase() === "l") this.setLasso(!this.lassoing);
    else if (event.key === "/") act(), byId("search").focus();
    else if (event.key === "Escape") this.setLasso(false), this.map.selected.size && this.select([]);
  }

  /** What is not needed for the first picture: paths and neighbours. */
  async rest() {
    if (!this.facts.served && document.readyState === "loading")
      await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
    this.paths = data.paths(await data.block("paths", this.facts.served));
    this.neighbours = data.neighbours(await data.block("neighbours", this.facts.served), this.facts);
    this.panel.render();
    document.documentElement.dataset.ready = "true";
  }
}

async function start() {
  const facts = data.facts();
  const app = new App(facts, data.points(await data.block("points", facts.served), facts));
  window.explorer = app; // for the console
  await app.rest();
}

start().catch((error) => announce(`The page can't be shown: ${error.message}`));

// Sheets of small pictures: 256 each, decoded when one of their images comes into view.

import { block } from "./data.js";

const AT_ONCE = 4; // inside a file; a server draws them, and the page needs a core too
const SERVED_AT_ONCE = 2;

export class Sheets {
  /**
   * @param facts {side, columns, perSheet, kind} of the sheets; side 0: there are no pictures
   * @param served whether they are fetched
   * @param arrived called when a sheet can be drawn
   */
  constructor(facts, served, arrived) {
    Object.assign(this, facts, { served, arrived });
    this.loaded = new Map();
    this.asked = new Set();
    this.waiting = [];
    this.loading = 0;
    this.ready = served || document.readyState !== "loading";
    if (!this.ready)
      document.addEventListener("DOMContentLoaded", () => {
        this.ready = true;
        this.next();
      });
  }

  /** Return the sheet of an image and where the image is on it; undefined until it has come. */
  find(row) {
    if (!this.side) return undefined;
    const number = Math.floor(row / this.perSheet);
    const image = this.loaded.get(number);
    if (image === undefined) {
      this.ask(number);
      return undefined;
    }
    const place = row % this.perSheet;
    return { image, x: (place % this.columns) * this.side, y: Math.floor(place / this.columns) * this.side };
  }

  ask(number) {
    if (this.asked.has(number)) return;
    this.asked.add(number);
    this.waiting.push(number);
    this.next();
  }

  next() {
    while (this.ready && this.loading < (this.served ? SERVED_AT_ONCE : AT_ONCE) && this.waiting.length) {
      const number = this.waiting.shift();
      this.loading++;
      this.load(number).finally(() => {
        this.loading--;
        this.next();
      });
    }
  }

  async load(number) {
    try {
      const bytes = await block(`sheet-${number}`, this.served);
      this.loaded.set(number, await createImageBitmap(new Blob([bytes], { type: `image/${this.kind}` })));
      this.arrived(number);
    } catch (error) {
      console.warn(`sheet ${number}: ${error.message}`); // its images stay dots
    }
  }

  /** Draw an image's picture on a canvas of its own as soon as it is there. */
  paint(canvas, row) {
    const found = this.find(row);
    if (!found) return false;
    canvas.width = canvas.height = this.side;
    canvas.getContext("2d").drawImage(found.image, found.x, found.y, this.side, this.side, 0, 0, this.side, this.side);
    return true;
  }
}

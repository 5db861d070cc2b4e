// The map: every image a dot, and a picture where there is room for one.
//
// Dots are written into memory as pixels, and pictures are drawn from their sheets: 200,000 dots and 600 pictures take
// a few milliseconds without a graphics card, which WebGL without one does not.

import { pixel } from "./colours.js";

const SMOOTH_FROM = 24; // sheets of smaller pictures are of glyphs, shown as squares

export class ImageMap {
  /**
   * @param canvas the element
   * @param data points of all images
   * @param camera where they are on the screen
   * @param sheets their pictures
   */
  constructor(canvas, data, camera, sheets) {
    Object.assign(this, { canvas, data, camera, sheets });
    this.context = canvas.getContext("2d", { alpha: false });
    this.colour = new Array(data.count).fill("#8b8f96");
    this.pixels = new Uint32Array(data.count);
    this.shown = null; // Uint8Array of those that the search finds; null: all
    this.selected = new Set();
    this.current = -1;
    this.outline = []; // of the lasso, CSS pixels
    this.cross = false;
    this.levelEnd = new Uint32Array(256);
    for (const level of data.level) this.levelEnd[level]++;
    for (let level = 1; level < 256; level++) this.levelEnd[level] += this.levelEnd[level - 1];
    this.pending = 0;
    this.frames = 0;
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = Math.max(1, Math.round(width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(height * this.ratio));
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.memory = new Uint32Array(this.image.data.buffer);
    this.camera.resize(width, height);
    this.draw();
  }

  /** Colour every image; `of` returns a colour for a row. */
  paint(of) {
    const known = new Map();
    for (let row = 0; row < this.data.count; row++) {
      const colour = of(row);
      this.colour[row] = colour;
      let value = known.get(colour);
      if (value === undefined) known.set(colour, (value = pixel(colour)));
      this.pixels[row] = value;
    }
    this.draw();
  }

  /** Ask for a new frame. */
  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.render();
      this.frames++;
    });
  }

  render() {
    const style = getComputedStyle(this.canvas);
    this.ground = style.getPropertyValue("--ground").trim();
    this.ink = style.getPropertyValue("--ink").trim();
    const showing = this.pictures();
    this.drawDots(showing);
    this.drawPictures(showing);
    this.drawOutline();
  }

  /** Return the rows that show as pictures, and those of them whose sheet has come. */
  pictures() {
    const { camera, data } = this;
    const showing = new Uint8Array(data.count);
    if (camera.level < 0 || !this.sheets.side) return { showing, rows: [] };
    const [left, top] = camera.place(-camera.size, -camera.size);
    const [right, bottom] = camera.place(camera.width + camera.size, camera.height + camera.size);
    const rows = [];
    for (let row = 0; row < this.levelEnd[camera.level]; row++) {
      const x = data.x[row], y = data.y[row];
      if (x < left || x > right || y < top || y > bottom || (this.shown && !this.shown[row])) continue;
      const found = this.sheets.find(row);
      if (!found) continue;
      showing[row] = 1;
      rows.push({ row, found });
    }
    return { showing, rows };
  }

  drawDots({ showing }) {
    const { camera, data, memory, ratio } = this;
    const width = this.canvas.width, height = this.canvas.height;
    memory.fill(pixel(this.ground));
    const radius = Math.max(1, Math.round(ratio * (data.count > 50_000 && camera.scale < 3000 ? 1 : 2.4)));
    const scale = camera.scale * ratio;
    const offsetX = (camera.width / 2 - camera.x * camera.scale) * ratio;
    const offsetY = (camera.height / 2 - camera.y * camera.scale) * ratio;
    const faint = pixel(mixed(this.ground, this.ink, 0.16));
    for (const pass of this.shown || this.selected.size ? [0, 1] : [1]) {
      for (let row = 0; row < data.count; row++) {
        const found = this.isLit(row);
        if (showing[row] || (pass === 1) !== found) continue;
        const x = (data.x[row] * scale + offsetX) | 0, y = (data.y[row] * scale + offsetY) | 0;
        if (x < radius || y < radius || x >= width - radius || y >= height - radius) continue;
        const value = found ? this.pixels[row] : faint;
        for (let down = -radius; down <= radius; down++) {
          const reach = down === -radius || down === radius ? radius - 1 : radius;
          const end = (y + down) * width + x + reach;
          for (let at = end - 2 * reach; at <= end; at++) memory[at] = value;
        }
      }
    }
    this.context.putImageData(this.image, 0, 0);
  }

  drawPictures({ rows }) {
    const { camera, context, data, ratio } = this;
    const { side } = this.sheets;
    const size = Math.round(camera.size * ratio), line = Math.max(2, Math.round(2 * ratio));
    context.imageSmoothingEnabled = side >= SMOOTH_FROM;
    context.lineWidth = line;
    for (const { row, found } of rows) {
      context.globalAlpha = this.isLit(row) ? 1 : 0.3;
      const x = Math.round(camera.screenX(data.x[row]) * ratio - size / 2);
      const y = Math.round(camera.screenY(data.y[row]) * ratio - size / 2);
      context.drawImage(found.image, found.x, found.y, side, side, x, y, size, size);
      context.strokeStyle = this.colour[row];
      context.strokeRect(x + line / 2, y + line / 2, size - line, size - line);
    }
    context.globalAlpha = 1;
    this.drawMarks(size, rows);
  }

  /** Whether an image is in full colour: all are, or those that are selected, or that the search finds. */
  isLit(row) {
    return this.isShown(row) && (this.selected.size === 0 || this.selected.has(row));
  }

  /** Draw frames around the selected pictures, and a larger one around the image that is open. */
  drawMarks(size, rows) {
    const { camera, context, data, ratio } = this;
    context.strokeStyle = this.ink;
    const ring = (row, half) => {
      const x = camera.screenX(data.x[row]) * ratio, y = camera.screenY(data.y[row]) * ratio;
      if (x < -half || y < -half || x > this.canvas.width + half || y > this.canvas.height + half) return;
      context.strokeRect(x - half, y - half, 2 * half, 2 * half);
    };
    context.lineWidth = 2 * ratio;
    for (const { row } of rows) if (this.selected.has(row)) ring(row, size / 2 + ratio);
    if (this.current < 0) return;
    context.lineWidth = 4 * ratio;
    ring(this.current, (rows.some(({ row }) => row === this.current) ? size / 2 : 4 * ratio) + 3 * ratio);
  }

  drawOutline() {
    const { context, ratio, outline } = this;
    context.lineWidth = 2 * ratio;
    context.strokeStyle = this.ink;
    if (outline.length > 1) {
      context.beginPath();
      outline.forEach(([x, y]) => context.lineTo(x * ratio, y * ratio));
      context.closePath();
      context.setLineDash([6 * ratio, 4 * ratio]);
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = `${this.ink}18`;
      context.fill();
    }
    if (this.cross) {
      const x = this.canvas.width / 2, y = this.canvas.height / 2, arm = 12 * ratio;
      context.beginPath();
      context.moveTo(x - arm, y);
      context.lineTo(x + arm, y);
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
      context.stroke();
    }
  }

  /** Return the image at a point of the screen: a picture, else the nearest dot within `reach` CSS pixels; else -1. */
  at(screenX, screenY, reach = 9) {
    const { camera, data } = this;
    const [x, y] = camera.place(screenX, screenY);
    const half = camera.size / 2 / camera.scale;
    const end = camera.level < 0 || !this.sheets.side ? 0 : this.levelEnd[camera.level];
    for (let row = end - 1; row >= 0; row--)
      if (Math.abs(data.x[row] - x) <= half && Math.abs(data.y[row] - y) <= half && this.isShown(row)) return row;
    let nearest = -1, least = (reach / camera.scale) ** 2;
    for (let row = 0; row < data.count; row++) {
      const away = (data.x[row] - x) ** 2 + (data.y[row] - y) ** 2;
      if (away < least && this.isShown(row)) [nearest, least] = [row, away];
    }
    return nearest;
  }

  isShown(row) {
    return this.shown === null || this.shown[row] === 1;
  }

  /** Return the images inside an outline of the screen. */
  within(outline) {
    const corners = outline.map(([x, y]) => this.camera.place(x, y));
    const xs = corners.map(([x]) => x), ys = corners.map(([, y]) => y);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found = [];
    for (let row = 0; row < this.data.count; row++) {
      const x = this.data.x[row], y = this.data.y[row];
      if (x < left || x > right || y < top || y > bottom || !this.isShown(row)) continue;
      if (isInside(x, y, corners)) found.push(row);
    }
    return found;
  }
}

/** Even-odd rule: a ray to the right crosses the outline an odd number of times. */
function isInside(x, y, corners) {
  let inside = false;
  for (let one = 0, other = corners.length - 1; one < corners.length; other = one++) {
    const [x1, y1] = corners[one], [x2, y2] = corners[other];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

function mixed(one, other, share) {
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const [from, to] = [parts(one), parts(other)];
  const found = from.map((part, number) => Math.round(part + (to[number] - part) * share));
  return `#${found.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

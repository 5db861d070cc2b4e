// From the map's unit square to the screen and back.

const SPACING = 46; // CSS pixels between pictures where they are densest
const COARSEST = 8, DEEPEST = 16; // as in levels.py
const FINEST = COARSEST * 2 ** (DEEPEST / 2); // pictures side by side
const LARGEST = 260; // CSS pixels of a picture, from the nearest

export class Camera {
  constructor() {
    Object.assign(this, { x: 0.5, y: 0.5, scale: 1, width: 1, height: 1 });
  }

  fit(width, height) {
    Object.assign(this, { width, height, x: 0.5, y: 0.5, scale: this.whole(width, height) });
  }

  whole(width = this.width, height = this.height) {
    return Math.max(100, Math.min(width, height) * 0.94);
  }

  /** Take another size of the screen, and show as much of the map as before. */
  resize(width, height) {
    const share = this.whole(width, height) / this.whole();
    Object.assign(this, { width, height, scale: this.scale * share });
  }

  /** CSS pixels of a place. */
  screenX(x) {
    return (x - this.x) * this.scale + this.width / 2;
  }

  screenY(y) {
    return (y - this.y) * this.scale + this.height / 2;
  }

  place(screenX, screenY) {
    return [(screenX - this.width / 2) / this.scale + this.x, (screenY - this.height / 2) / this.scale + this.y];
  }

  pan(byX, byY) {
    this.x = Math.min(1.2, Math.max(-0.2, this.x - byX / this.scale));
    this.y = Math.min(1.2, Math.max(-0.2, this.y - byY / this.scale));
  }

  /** Zoom by a factor, so that what lies under a point of the screen stays there. */
  zoom(factor, screenX = this.width / 2, screenY = this.height / 2) {
    const [x, y] = this.place(screenX, screenY);
    const largest = FINEST * LARGEST;
    this.scale = Math.min(largest, Math.max(this.whole() / 2, this.scale * factor));
    this.x = x - (screenX - this.width / 2) / this.scale;
    this.y = y - (screenY - this.height / 2) / this.scale;
  }

  goTo(x, y) {
    Object.assign(this, { x, y, scale: Math.max(this.scale, 16 * COARSEST * SPACING) });
  }

  /** Images of this level and below show as pictures; -1: none do. */
  get level() {
    return Math.max(-1, Math.min(DEEPEST, Math.floor(2 * Math.log2(this.scale / (COARSEST * SPACING)))));
  }

  /** CSS pixels of a picture. */
  get size() {
    const growth = this.scale / (FINEST * SPACING);
    return (SPACING - 4) * Math.max(1, Math.min(growth, LARGEST / SPACING));
  }
}

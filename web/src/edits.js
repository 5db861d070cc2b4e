// What the user changed: names of classes, images moved by hand, images that are wrong. Every change can be undone.
//
// An image's group is what it was moved to, else the name of its class, else the class's number. Classes of one name
// are one group; a group that no class is called by holds only images that were moved there.

export class Edits {
  /**
   * @param points {count, likely, classes, probability, part}: the likeliest classes of each image, best first
   * @param start {names: {class: name}, moved: {row: group}, wrong: [row]}
   */
  constructor(points, start) {
    this.points = points;
    this.part = points.part;
    this.now = {
      names: new Map(Object.entries(start.names).map(([key, name]) => [Number(key), name])),
      moved: new Map(Object.entries(start.moved).map(([row, group]) => [Number(row), group])),
      wrong: new Set(start.wrong),
    };
    this.start = this.now;
    this.past = [];
    this.future = [];
    this.regroup();
  }

  nameOf(number, names = this.now.names) {
    return names.get(number) ?? String(number);
  }

  /** Assign images to groups anew; groups are sorted by size. */
  regroup() {
    const { names, moved } = this.now;
    const { count, likely, classes } = this.points;
    const groups = new Map();
    const group = (name) => groups.get(name) ?? groups.set(name, { name, rows: [], classes: new Set() }).get(name);
    const used = new Set(names.keys());
    for (let at = 0; at < count * likely; at += likely || 1) used.add(classes[at]); // also where all were moved away
    for (const number of used) group(this.nameOf(number)).classes.add(number);
    const own = likely ? this.ownClass() : null;
    for (let row = 0; row < count; row++) {
      const target = moved.get(row);
      group(target ?? (own ? this.nameOf(own(row)) : "images")).rows.push(row);
    }
    this.own = own;
    this.groups = [...groups.values()].sort((one, other) => other.rows.length - one.rows.length);
    this.group = new Int32Array(count);
    this.groups.forEach((one, number) => one.rows.forEach((row) => (this.group[row] = number)));
  }

  /** Return the class of an image by its row, moved or not; as in classify, classes of one name count together. */
  ownClass() {
    const { likely, classes, probability } = this.points;
    const heads = new Map(), lowest = new Map();
    for (const [number, name] of [...this.now.names].sort(([one], [other]) => one - other)) {
      if (!lowest.has(name)) lowest.set(name, number);
      heads.set(number, lowest.get(name));
    }
    const head = (number) => heads.get(number) ?? number;
    if (lowest.size === heads.size) return (row) => classes[row * likely]; // nothing is merged
    return (row) => {
      const sums = new Map();
      for (let at = row * likely; at < (row + 1) * likely; at++)
        sums.set(head(classes[at]), (sums.get(head(classes[at])) ?? 0) + probability[at]);
      let best = -1;
      for (const [number, sum] of sums) if (best < 0 || sum > sums.get(best)) best = number;
      return best;
    };
  }

  groupOf(row) {
    return this.groups[this.group[row]];
  }

  named(name) {
    return this.groups.find((one) => one.name === name);
  }

  isWrong(row) {
    return this.now.wrong.has(row);
  }

  /** Give a group a name that no other group has. */
  rename(group, name) {
    this.change((next) => {
      for (const number of group.classes) next.names.set(number, name);
      for (const row of group.rows) if (next.moved.get(row) === group.name) next.moved.set(row, name);
    });
  }

  /** Make two groups one, under the name of the second, which has one from now on. */
  merge(group, into) {
    this.change((next) => {
      for (const number of [...group.classes, ...into.classes]) next.names.set(number, into.name);
      for (const row of group.rows) if (next.moved.get(row) === group.name) next.moved.set(row, into.name);
    });
  }

  move(rows, name) {
    this.change((next) => {
      for (const row of rows) {
        if (this.own && this.nameOf(this.own(row)) === name) next.moved.delete(row);
        else next.moved.set(row, name);
      }
    });
  }

  /** Split a group: classes that were merged part again, the largest keeps the name; else one falls into its halves. */
  split(group) {
    const kinds = new Map(), { classes, likely } = this.points;
    const parted = group.classes.size > 1 ? (row) => classes[row * likely] : this.half(group);
    for (const row of group.rows) {
      const kind = parted(row);
      if (group.classes.size > 1 && !group.classes.has(kind)) continue; // moved here, or of the merged classes together
      if (!kinds.has(kind)) kinds.set(kind, []);
      kinds.get(kind).push(row);
    }
    if (group.classes.size < 2 && kinds.size < 2) return false;
    if (group.classes.size > 1) {
      const size = (number) => kinds.get(number)?.length ?? 0;
      const [largest] = [...group.classes].sort((one, other) => size(other) - size(one));
      this.change((next) => group.classes.forEach((number) => number !== largest && next.names.delete(number)));
      return true;
    }
    const smaller = [...kinds.values()].sort((one, other) => other.length - one.length)[1];
    this.move(smaller, this.free(group.name));
    return true;
  }

  half(group) {
    const bit = [1, 2].find((one) => new Set(group.rows.map((row) => this.part[row] & one)).size > 1);
    return (row) => this.part[row] & (bit ?? 0);
  }

  /** Return a name that no group has. */
  free(name) {
    const stem = name.slice(0, 90);
    for (let number = 2; ; number++) if (!this.named(`${stem} (${number})`)) return `${stem} (${number})`;
  }

  mark(rows, wrong) {
    this.change((next) => rows.forEach((row) => (wrong ? next.wrong.add(row) : next.wrong.delete(row))));
  }

  change(apply) {
    const next = { names: new Map(this.now.names), moved: new Map(this.now.moved), wrong: new Set(this.now.wrong) };
    apply(next);
    this.past.push(this.now);
    this.future = [];
    this.now = next;
    this.regroup();
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.now);
    this.now = this.past.pop();
    this.regroup();
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.now);
    this.now = this.future.pop();
    this.regroup();
    return true;
  }

  get changed() {
    const { names, moved, wrong } = this.difference((row) => row);
    return Object.keys(names).length + Object.keys(moved).length + Object.keys(wrong).length > 0;
  }

  /** Return what differs from the start, as `gemel classify --edits` reads it; empty names and nulls take away. */
  difference(path, start = this.start) {
    const found = { names: {}, moved: {}, wrong: {} };
    for (const number of new Set([...start.names.keys(), ...this.now.names.keys()]))
      if (start.names.get(number) !== this.now.names.get(number)) found.names[number] = this.now.names.get(number) ?? "";
    for (const row of new Set([...start.moved.keys(), ...this.now.moved.keys()]))
      if (start.moved.get(row) !== this.now.moved.get(row)) found.moved[path(row)] = this.now.moved.get(row) ?? null;
    for (const row of new Set([...start.wrong, ...this.now.wrong]))
      if (start.wrong.has(row) !== this.now.wrong.has(row)) found.wrong[path(row)] = this.now.wrong.has(row);
    return found;
  }
}

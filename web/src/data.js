// What the page knows of the images: blocks inside the file, or fetched from `gemel explore`.

const NONE = 0xffffffff;

/** Return the facts that stand in the page: counts, names, the state of the edits. */
export const facts = () => JSON.parse(document.getElementById("facts").textContent);
export const startOfEdits = () => JSON.parse(document.getElementById("edits").textContent);

/** Return a block's bytes. Inside a file it may not be there before the whole page is read. */
export async function block(name, served) {
  if (!served) return decoded(document.getElementById(name).textContent);
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

function decoded(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text.trim());
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Columns one behind the other in a block of bytes. */
function* columns(bytes) {
  let at = bytes.byteOffset;
  let array = yield;
  for (;;) {
    const [kind, length] = array;
    const column = new kind(bytes.buffer, at, length);
    at += column.byteLength;
    array = yield column;
  }
}

function reader(bytes) {
  const generator = columns(bytes);
  generator.next();
  return (kind, length) => generator.next([kind, length]).value;
}

/** Return places, levels, classes and labels of all images. */
export function points(bytes, { count, likely }) {
  const read = reader(bytes);
  const x = read(Uint16Array, count), y = read(Uint16Array, count);
  const classes = read(Uint16Array, count * likely), probability = read(Uint16Array, count * likely);
  const label = read(Uint16Array, count), level = read(Uint8Array, count), part = read(Uint8Array, count);
  const unit = (column) => Float32Array.from(column, (value) => value / 65535);
  return { count, likely, x: unit(x), y: unit(y), classes, label, probability, level, part };
}

/** Return the nearest neighbours of each image: rows, and similarities from 0 to 1. */
export function neighbours(bytes, { count, near }) {
  const read = reader(bytes);
  const rows = read(Uint32Array, count * near), similarity = read(Uint8Array, count * near);
  return (row) => {
    const found = [];
    for (let at = row * near; at < (row + 1) * near; at++)
      if (rows[at] !== NONE) found.push({ row: rows[at], similarity: similarity[at] / 255 });
    return found;
  };
}

/** Return the path of each image. */
export function paths(bytes) {
  const { folders, folder, names } = JSON.parse(new TextDecoder().decode(bytes));
  return { of: (row) => folders[folder[row]] + names[row], name: (row) => names[row] };
}

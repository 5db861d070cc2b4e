// A table that the user joins to the images, by path or by file name: CSV with commas, semicolons or tabs.

/** Return the cells of a CSV text, row by row; quotes as RFC 4180 has them. */
export function cells(text) {
  text = text.replace(/^\ufeff/, "");
  const first = text.slice(0, (text + "\n").indexOf("\n"));
  const separator = [",", ";", "\t"].find((one) => first.includes(one)) ?? ",";
  const rows = [];
  let row = [], cell = "", quoted = false;
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') cell += text[++at];
      else quoted = false;
    } else if (letter === '"' && !cell) quoted = true;
    else if (letter === separator) row.push(cell), (cell = "");
    else if (letter === "\n") row.push(cell), rows.push(row), (row = []), (cell = "");
    else if (letter !== "\r") cell += letter;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return rows.filter((one) => one.some((part) => part.trim()));
}

/**
 * Return the table's columns with a value for each image, undefined where the table has none.
 * @throws Error with what is wrong, in a sentence
 */
export function joined(text, paths, count) {
  const [head, ...rows] = cells(text);
  const key = (head ?? []).findIndex((name) => name.trim().toLowerCase() === "path");
  if (key < 0) throw new Error("the table needs a first row that names its columns, one of them path");
  const whole = new Map(), short = new Map();
  for (let row = 0; row < count; row++) {
    whole.set(paths.of(row), row);
    short.set(paths.name(row), short.has(paths.name(row)) ? -1 : row);
  }
  const columns = head.map((name) => ({ name: name.trim(), values: new Array(count) }));
  let found = 0;
  for (const cellsOfRow of rows) {
    const path = cellsOfRow[key]?.trim() ?? "";
    const row = whole.get(path) ?? short.get(path.split(/[\\/]/).pop()) ?? -1;
    if (row < 0) continue;
    found++;
    columns.forEach((column, number) => (column.values[row] = cellsOfRow[number]?.trim() || undefined));
  }
  if (!found) throw new Error("no row's path is one of these images; paths are as gemel classify writes them");
  return { found, columns: columns.filter((_, number) => number !== key) };
}

/** Return a column as numbers, NaN where there is none; null if it holds anything else. */
export function asNumbers(values) {
  const numbers = Array.from(values, (value) => (value === undefined ? NaN : Number(value)));
  return numbers.every((number, at) => values[at] === undefined || Number.isFinite(number)) ? numbers : null;
}

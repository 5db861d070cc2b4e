// Bundle page, style and scripts into the one file that gemel fills with a run's images:  make web

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const TARGET = new URL("../src/gemel/reports/explorer.html", import.meta.url);
const here = (name) => new URL(name, import.meta.url);

/** A hash of the sources, by which a test tells that the built file is theirs. */
function fingerprint() {
  const names = ["build.mjs", "package.json", "page.html", "style.css", ...readdirSync(here("src")).map((name) => `src/${name}`)];
  const hash = createHash("sha256");
  for (const name of names.sort()) hash.update(`${name}\n`).update(readFileSync(here(name)));
  return hash.digest("hex");
}

async function bundled(entry, loader) {
  const options = { entryPoints: [here(entry).pathname], bundle: true, minify: true, write: false, target: "es2022", format: "iife" };
  const { outputFiles } = await build({ ...options, charset: "utf8", loader });
  return outputFiles[0].text.trim();
}

const script = `\n${(await bundled("src/main.js")).replaceAll("</", "<\\/")}\n`;
const style = await bundled("style.css");
const hash = `sha256-${createHash("sha256").update(script).digest("base64")}`;
const page = readFileSync(here("page.html"), "utf8");
const filled = page.replace("{{style}}", () => style).replace("{{script}}", () => script).replace("{{hash}}", hash);
writeFileSync(TARGET, filled.replace("<html", () => `<!-- built from web/ by make web; sources ${fingerprint()} -->\n<html`));
console.log(`${TARGET.pathname}: ${filled.length} bytes`);

// Bundles the page runtime: node build.mjs OUTPUT [--source=FINGERPRINT] [--dev]
// --source is kept in the manifest, so that the build hook can tell what the bundle was made from; --dev keeps the code readable.
// Three passes, because each needs hashed names of the one before: style sheets, the modules of live pages, the script of every page.
import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import * as esbuild from "esbuild";
import { thirdParty } from "./licences.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { source: { type: "string", default: "" }, dev: { type: "boolean", default: false } },
});
const output = resolve(positionals[0] ?? "dist");
const here = import.meta.dirname;
const inputs = new Set();

/** Bundles `entries` and returns what esbuild says of each file it wrote, by name. */
async function bundle(entries, options) {
  const { metafile } = await esbuild.build({
    absWorkingDir: here,
    entryPoints: entries,
    outdir: output,
    entryNames: "[name].[hash]",
    chunkNames: "[name].[hash]",
    assetNames: "[name].[hash]",
    bundle: true,
    platform: "browser",
    target: ["es2022"],
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
    metafile: true,
    minify: !values.dev,
    sourcemap: values.dev,
    ...options,
  });
  // What of an input is left in the files, not all that was read: unused parts of a package need no notice.
  for (const { inputs: used } of Object.values(metafile.outputs)) for (const input of Object.keys(used)) inputs.add(input);
  return Object.fromEntries(Object.entries(metafile.outputs).map(([path, made]) => [basename(path), made]));
}

const made = (files, entry) => Object.keys(files).find((name) => files[name].entryPoint === entry);

/** `name` and the modules that load with it; what it imports lazily is left out. */
function withStaticImports(files, name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const { path, kind } of files[name].imports) if (kind === "import-statement") withStaticImports(files, basename(path), found);
  return found;
}

// Of each font of a style sheet the one format that all browsers read.
const fonts = { ".woff2": "file", ".woff": "empty", ".ttf": "empty", ".eot": "empty", ".svg": "empty" };
const styles = await bundle(["src/fonts.css", "src/widgets/widgets.css"], { loader: fonts });

const modules = await bundle(["src/live.ts"], {
  format: "esm",
  splitting: true,
  define: {
    global: "globalThis",
    "process.env.NODE_ENV": '"production"',
    __WIDGETS_CSS__: JSON.stringify(`./${made(styles, "src/widgets/widgets.css")}`),
  },
  alias: { "sanitize-html": "./src/widgets/sanitize.ts" },
});
const live = made(modules, "src/live.ts");

// Browsers do not load module scripts from file://, so what every page needs is one classic script.
const pages = await bundle(["src/page.ts"], { format: "iife", define: { __LIVE_JS__: JSON.stringify(`./${live}`) } });

const manifest = {
  source: values.source,
  page: made(pages, "src/page.ts"),
  fonts: made(styles, "src/fonts.css"),
  live: [...withStaticImports(modules, live)],
  files: ["THIRD-PARTY.txt", "manifest.json", ...Object.keys({ ...styles, ...modules, ...pages })].sort(),
};
mkdirSync(output, { recursive: true });
writeFileSync(join(output, "THIRD-PARTY.txt"), thirdParty(here, [...inputs]));
writeFileSync(join(output, "manifest.json"), JSON.stringify(manifest, null, 1) + "\n");

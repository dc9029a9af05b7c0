// Bundles the page runtime: node build.mjs OUTPUT [--source=FINGERPRINT] [--dev]
// --source is kept in the manifest, so that the build hook can tell what the bundle was made from; --dev keeps the code readable.
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

// Browsers do not load module scripts from file://, so what every page needs is one classic script.
const { metafile } = await esbuild.build({
  absWorkingDir: here,
  entryPoints: ["src/page.ts", "src/fonts.css"],
  outdir: output,
  entryNames: "[name].[hash]",
  assetNames: "[name].[hash]",
  loader: { ".woff2": "file" },
  bundle: true,
  format: "iife",
  platform: "browser",
  target: ["es2022"],
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
  minify: !values.dev,
  sourcemap: values.dev,
});
const made = (entry) => basename(Object.entries(metafile.outputs).find(([, it]) => it.entryPoint === entry)[0]);
const manifest = { source: values.source, page: made("src/page.ts"), fonts: made("src/fonts.css") };

mkdirSync(output, { recursive: true });
writeFileSync(join(output, "THIRD-PARTY.txt"), thirdParty(here, Object.keys(metafile.inputs)));
writeFileSync(join(output, "manifest.json"), JSON.stringify(manifest, null, 1) + "\n");

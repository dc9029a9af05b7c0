// The licence texts of the npm packages that are inside the bundle.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** What may be shipped inside a BSD-3-Clause wheel (OFL-1.1: fonts); a package under another licence fails the build. */
const ALLOWED = new Set(["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "OFL-1.1"]);

/**
 * One text with name, version and licence of every package among `inputs`, the bundled files as esbuild names them
 * relative to `root`. Throws when a licence is not allowed or its text is missing.
 */
export function thirdParty(root, inputs) {
  const folders = new Set(inputs.map((input) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(input)?.[0]));
  folders.delete(undefined);
  if (!folders.size) return "The page runtime holds no third-party code.\n";
  return [...folders].sort().map((folder) => entry(join(root, folder))).join("\n\n");
}

function entry(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  if (!ALLOWED.has(license)) throw new Error(`${name} ${version}: the licence ${license} is not among those we may ship.`);
  const file = readdirSync(folder).find((candidate) => /^(licen[cs]e|copying)/i.test(candidate));
  if (!file) throw new Error(`${name} ${version} has no licence text in its package.`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
}

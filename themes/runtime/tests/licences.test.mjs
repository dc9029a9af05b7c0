import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { thirdParty } from "../licences.mjs";

let root;

beforeEach(() => void (root = mkdtempSync(join(tmpdir(), "licences-"))));
afterEach(() => rmSync(root, { recursive: true }));

function install(folder, license, files) {
  mkdirSync(join(root, folder), { recursive: true });
  const about = { name: folder.split("node_modules/").at(-1), version: "1.0.0", license };
  for (const [name, text] of Object.entries({ ...files, "package.json": JSON.stringify(about) })) writeFileSync(join(root, folder, name), text);
}

test("own code needs no notice", () => {
  expect(thirdParty(root, ["src/page.ts"])).toBe("The page runtime holds no third-party code.\n");
});

test("every bundled package is listed once with its text, nested and scoped ones too", () => {
  install("node_modules/zed", "ISC", { "LICENCE.md": "ISC text\n" });
  install("node_modules/zed/node_modules/@at/deep", "MIT", { LICENSE: "MIT text" });
  const text = thirdParty(root, ["src/page.ts", "node_modules/zed/a.js", "node_modules/zed/b.js", "node_modules/zed/node_modules/@at/deep/x.js"]);
  expect(text).toBe("zed 1.0.0 (ISC)\n\nISC text\n\n\n@at/deep 1.0.0 (MIT)\n\nMIT text\n");
});

test("a licence we may not ship fails the build", () => {
  install("node_modules/copyleft", "GPL-3.0-only", { COPYING: "text" });
  expect(() => thirdParty(root, ["node_modules/copyleft/a.js"])).toThrow("copyleft 1.0.0: the licence GPL-3.0-only");
});

test("a package without its licence text fails the build", () => {
  install("node_modules/bare", "MIT", {});
  expect(() => thirdParty(root, ["node_modules/bare/a.js"])).toThrow("bare 1.0.0 has no licence text");
});

test.each([
  ["(MPL-2.0 OR Apache-2.0)", true],
  ["(CC-BY-4.0 AND OFL-1.1 AND MIT)", true],
  ["(MIT AND MPL-2.0)", false],
  ["(GPL-2.0 OR MPL-2.0)", false],
  [undefined, false],
])("of alternative licences one must be allowed, of several parts each (%s)", (license, fine) => {
  install("node_modules/some", license, { LICENSE: "text" });
  const list = () => thirdParty(root, ["node_modules/some/a.js"]);
  fine ? expect(list()).toContain("some 1.0.0") : expect(list).toThrow("is not among those we may ship");
});

test("packages known to come without a text get it from us, with their copyright notice", () => {
  install("node_modules/@lumino/widgets", "BSD-3-Clause", {});
  const text = thirdParty(root, ["node_modules/@lumino/widgets/dist/index.es6.js"]);
  expect(text).toMatch(/PhosphorJS Contributors[^]*Redistribution and use/);
});

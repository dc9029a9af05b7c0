// The licence texts of the npm packages that are inside the bundle.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** What may be shipped inside a BSD-3-Clause wheel (OFL-1.1, CC-BY-4.0: fonts and icons); a package under another licence fails the build. */
const ALLOWED = new Set([
  "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "ISC", "MIT", "OFL-1.1", "Unlicense",
]);

/** Packages that come without the text of their licence, BSD-3-Clause, with the copyright notice that their repository has. */
const NOTICES = {
  "@jupyter-widgets/": "Copyright (c) 2015 Project Jupyter Contributors\nAll rights reserved.",
  "@lumino/": "Copyright (c) 2019 Project Jupyter Contributors\nCopyright (c) 2014-2017, PhosphorJS Contributors\nAll rights reserved.",
};

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
  const terms = String(license).replace(/^\((.*)\)$/, "$1");
  if (!allowed(terms)) throw new Error(`${name} ${version}: the licence ${license} is not among those we may ship.`);
  return `${name} ${version} (${terms})\n\n${text(folder, name, version).trim()}\n`;
}

/** Of alternatives one is enough, of parts under several licences each must be allowed; no package nests the two. */
function allowed(terms) {
  if (terms.includes(" OR ")) return terms.split(" OR ").some((name) => ALLOWED.has(name));
  return terms.split(" AND ").every((name) => ALLOWED.has(name));
}

function text(folder, name, version) {
  const file = readdirSync(folder).find((candidate) => /^(licen[cs]e|copying)/i.test(candidate));
  if (file) return readFileSync(join(folder, file), "utf8");
  const publisher = Object.keys(NOTICES).find((prefix) => name.startsWith(prefix));
  if (!publisher) throw new Error(`${name} ${version} has no licence text in its package.`);
  return `${NOTICES[publisher]}\n\n${BSD_3_CLAUSE}`;
}

const BSD_3_CLAUSE = `Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation
   and/or other materials provided with the distribution.

3. Neither the name of the copyright holder nor the names of its
   contributors may be used to endorse or promote products derived from
   this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
`;

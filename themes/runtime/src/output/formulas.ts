/** TeX as MathML, which browsers draw by themselves; in the elements that the builder puts formulas into. */
import temml from "temml";
import { escape } from "./types";

const MAX_LENGTH = 20_000;

/** A formula; one that cannot be read is shown as it was written. `phrase`: for where only a part of a sentence may stand. */
export function formulaHtml(tex: string, block: boolean, phrase = false): string {
  let html = `<code class="tex">${escape(tex.trim())}</code>`;
  try {
    if (tex.length <= MAX_LENGTH) html = mathml(tex, block);
  } catch {
    // its source is shown
  }
  return block ? (phrase ? `<span class="math">${html}</span>` : `<div class="math">${html}</div>`) : html;
}

function mathml(tex: string, block: boolean): string {
  const html = temml.renderToString(tex.trim(), { displayMode: block, throwOnError: true, annotate: true });
  return html.replace(/^<math[^>]*>/, `<math display="${block ? "block" : "inline"}">`).replace(/\s+<\/annotation>/, "</annotation>");
}

/** A formula at the start of a text, without its delimiters; null where there is none. */
export function formulaAt(text: string): { raw: string; tex: string; block: boolean } | null {
  const match = FORMULA.exec(text);
  if (!match) return null;
  const [raw, display, bracketed, environment, , inline, parenthesised] = match;
  const tex = display ?? bracketed ?? environment ?? inline ?? parenthesised ?? "";
  if (!tex.trim() || (inline !== undefined && isMoney(inline))) return null;
  // In Markdown it may be no more than an escaped bracket.
  if ((bracketed ?? parenthesised) !== undefined && !EVIDENT.test(tex)) return null;
  return { raw, tex, block: inline === undefined && parenthesised === undefined };
}

/** Whether what follows a dollar sign reads like an amount, or the sign like the end of one. */
function isMoney(tex: string): boolean {
  return /^\s/.test(tex) || (!/[\\^_={}]/.test(tex) && /^\d[\d.,]*[kKmMbB]?(\s+\(?[A-Za-z]{2,}|[\s\S]*\s$)/.test(tex));
}

const EVIDENT = /\\[A-Za-z]|[\^=+]|_\{|\b[A-Za-z](_\w)?\b/;

/** Where the next formula may begin, -1 for nowhere. */
export function formulaStart(text: string): number {
  return text.search(/\$|\\[[(]|\\begin\{/);
}

const FORMULA = new RegExp(
  [
    String.raw`^\$\$((?:[^$\\]|\\[\s\S]|\$(?!\$))+?)\$\$`,
    String.raw`^\\\[([\s\S]{1,5000}?)\\\]`,
    String.raw`^(\\begin\{([a-zA-Z]+\*?)\}[\s\S]{1,5000}?\\end\{\4\})`,
    String.raw`^\$((?:[^$\\\x60]|\\[\s\S])+?)\$(?!\d)`,
    String.raw`^\\\(([\s\S]{1,5000}?)\\\)`,
  ].join("|"),
);

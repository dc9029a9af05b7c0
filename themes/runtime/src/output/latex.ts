/** text/latex: text with formulas between delimiters. */
import { formulaAt, formulaHtml, formulaStart } from "./formulas";
import { asText, escape, preformatted, type Renderer } from "./types";

const MAX_LENGTH = 20_000;

/** Text with its formulas as MathML, the rest escaped. */
export function latexHtml(text: string): string {
  let html = "";
  while (text) {
    const start = formulaStart(text);
    const formula = start < 0 ? null : formulaAt(text.slice(start));
    const end = start < 0 ? text.length : start + (formula?.raw.length ?? 1);
    html += escape(formula ? text.slice(0, start) : text.slice(0, end));
    if (formula) html += formulaHtml(formula.tex, formula.block);
    text = text.slice(end);
  }
  return html;
}

export const latex: Renderer = (element, bundle, mime) => {
  const text = asText(bundle.data[mime]);
  if (text.length > MAX_LENGTH) element.append(preformatted(escape(text)));
  else element.innerHTML = latexHtml(text);
};

/** text/markdown, with formulas. */
import { Marked, type TokenizerAndRendererExtension, type Tokens } from "marked";
import { formulaAt, formulaHtml, formulaStart } from "./formulas";
import { insertHtml } from "./html";
import { asText, escape, preformatted, type Renderer } from "./types";

const MAX_SOURCE = 500_000;

const inline: TokenizerAndRendererExtension = {
  name: "inlineFormula",
  level: "inline",
  start: (source) => found(formulaStart(source)),
  tokenizer: (source) => {
    const formula = formulaAt(source);
    return formula ? { type: "inlineFormula", ...formula } : undefined;
  },
  renderer: (token) => formulaHtml(token["tex"] as string, token["block"] as boolean, true),
};

/** A formula that has its lines for itself: what looks like a list or a heading in it is none. */
const block: TokenizerAndRendererExtension = {
  name: "blockFormula",
  level: "block",
  start: (source) => found(source.search(/^ {0,3}(?:\$\$|\\\[|\\begin\{)/m)),
  tokenizer: (source) => {
    const indent = /^ {0,3}/.exec(source)![0];
    const formula = formulaAt(source.slice(indent.length));
    const rest = formula?.block ? /^[ \t]*(?:\n+|$)/.exec(source.slice(indent.length + formula.raw.length)) : null;
    return formula && rest ? { type: "blockFormula", ...formula, raw: indent + formula.raw + rest[0] } : undefined;
  },
  renderer: (token) => formulaHtml(token["tex"] as string, true),
};

const found = (at: number): number | undefined => (at < 0 ? undefined : at);

const marked = new Marked({
  extensions: [block, inline],
  renderer: {
    code({ text, lang }: Tokens.Code): string {
      const language = /^[{.]*([\w+#.-]{1,40})/.exec(lang ?? "")?.[1];
      const attribute = language ? ` class="language-${language}"` : "";
      return `<div class="highlight"><pre tabindex="0"><code${attribute}>${escape(text)}</code></pre></div>\n`;
    },
  },
});

/** Markdown as the HTML that the builder makes of it, apart from colours in code. */
export function markdownHtml(source: string): string {
  const html = marked.parse(source, { async: false });
  return html
    .replaceAll("<table>", '<div class="table-wrap" tabindex="0" role="region" aria-label="Table"><table>')
    .replaceAll("</table>", "</table></div>");
}

export const markdown: Renderer = async (element, bundle, mime, _, attach) => {
  const source = asText(bundle.data[mime]);
  if (source.length > MAX_SOURCE) {
    element.append(preformatted(escape(source)));
    return;
  }
  const html = markdownHtml(source);
  attach();
  await insertHtml(element, html);
};

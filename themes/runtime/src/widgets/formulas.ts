/** Formulas in labels and in HTML of widgets. */

const SKIPPED = "script, style, textarea, pre, code, math";
const FORMULA = /\$|\\\(|\\\[/;

/** Replaces the formulas in the text of `element`, or in `text` put in there, by MathML. */
export function typeset(element: HTMLElement, text?: string): void {
  if (text !== undefined) element.textContent = text;
  if (!FORMULA.test(element.textContent ?? "")) return;
  void convert(element).catch((error: unknown) => console.error(error));
}

async function convert(element: HTMLElement): Promise<void> {
  const { latexHtml } = await import("../output/latex"); // large, and few widgets have formulas
  const texts: Text[] = [];
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) texts.push(walker.currentNode as Text);
  for (const text of texts) {
    if (!FORMULA.test(text.data) || text.parentElement?.closest(SKIPPED)) continue;
    const html = document.createElement("span"); // one box: labels are flex containers, which would lose the blanks
    html.innerHTML = latexHtml(text.data);
    text.replaceWith(html);
  }
}

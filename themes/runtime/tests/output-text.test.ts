// @vitest-environment jsdom
import { expect, test } from "vitest";
import { latexHtml } from "../src/output/latex";
import { markdownHtml } from "../src/output/markdown";

function parsed(html: string): HTMLElement {
  const holder = document.createElement("div");
  holder.innerHTML = html;
  return holder;
}

/** The TeX of each formula, block ones between two dollar signs. */
function formulas(html: string): string[] {
  return [...parsed(html).querySelectorAll("math")].map((math) => {
    const dollars = math.getAttribute("display") === "block" ? "$$" : "$";
    return `${dollars}${math.querySelector("annotation")!.textContent}${dollars}`;
  });
}

test("LaTeX is text with formulas", () => {
  const html = latexHtml("Text <b> $x<y$ and \\begin{align}a&=b\\\\c&=d\\end{align} end \\(z^2\\) \\[w_1\\]");
  expect(html.startsWith("Text &lt;b&gt; <math")).toBe(true);
  expect(formulas(html)).toEqual(["$x<y$", "$$\\begin{align}a&=b\\\\c&=d\\end{align}$$", "$z^2$", "$$w_1$$"]);
  expect(parsed(html).querySelectorAll("div.math > math[display=block]")).toHaveLength(2);
});

test("a formula that cannot be read is shown as it was written", () => {
  expect(latexHtml("$\\frac{a$")).toBe('<code class="tex">\\frac{a</code>');
  expect(latexHtml("$$\\nosuchcommand{<}$$")).toBe('<div class="math"><code class="tex">\\nosuchcommand{&lt;}</code></div>');
});

test.each(["It costs $5 and $6.", "from $10k up to $20k", "5$ and 6$", "no $ at all", "\\(in brackets\\)"])("%j is no formula", (text) => {
  expect(formulas(markdownHtml(text))).toEqual([]);
  expect(formulas(latexHtml(text))).toEqual([]);
});

test("formulas in Markdown are left alone by it", () => {
  const html = markdownHtml("$a_1 * b_1$ and *this* and $a_2*b_2$\n\n$$\nx =\n- y\n$$\n\nafter");
  expect(formulas(html)).toEqual(["$a_1 * b_1$", "$a_2*b_2$", "$$x =\n- y$$"]);
  expect(parsed(html).querySelector("em")!.textContent).toBe("this");
  expect(parsed(html).querySelector("ul, h1, h2")).toBeNull();
});

test("a block formula within a sentence stays in it", () => {
  const html = markdownHtml("before $$x$$ after");
  expect(parsed(html).querySelector("p > span.math > math[display=block]")).not.toBeNull();
});

test("code in Markdown holds no formulas, and looks as in static pages", () => {
  const html = markdownHtml("`$a$`\n\n```python\nx = '$b$' < 1\n```");
  expect(formulas(html)).toEqual([]);
  expect(formulas(markdownHtml("$5 and $6, `a$b$`"))).toEqual([]);
  expect(html).toContain('<div class="highlight"><pre tabindex="0"><code class="language-python">x = \'$b$\' &lt; 1</code></pre></div>');
});

test("tables of Markdown scroll on their own", () => {
  const table = parsed(markdownHtml("|a|b|\n|-|-|\n|$x$|2|"));
  expect(table.querySelector('.table-wrap[tabindex="0"][role=region] > table td math')).not.toBeNull();
});

test("HTML and links in Markdown stay as they are", () => {
  expect(markdownHtml("<b class='x'>y</b> [l](a.html)")).toBe("<p><b class='x'>y</b> <a href=\"a.html\">l</a></p>\n");
});

test.each(["$a", "$$", "\\begin{a}", "\\[", "$x$1", "`$", "\\("])("a text full of %j is read in no time to speak of", (unit) => {
  const text = unit.repeat(2_000 / unit.length);
  expect(parsed(latexHtml(text)).textContent.length).toBeGreaterThan(0);
  expect(parsed(markdownHtml(text)).textContent.length).toBeGreaterThan(0);
});

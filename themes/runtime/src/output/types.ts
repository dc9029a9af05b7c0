/** What the modules that draw outputs say to each other. */

/** The data of one output by MIME type, and what the kernel says about them. */
export interface MimeBundle {
  data: Record<string, unknown>;
  metadata: Record<string, any>;
}

/** What drawing needs from the page around an output. */
export interface DrawContext {
  /** Draws the widget with this id into an element; null where the page has no widgets. Rejects for an unknown widget. */
  widgets: null | ((modelId: string, element: HTMLElement) => Promise<void>);
}

/** One message of a kernel, as far as it is about outputs. */
export interface OutputMessage {
  type: "stream" | "display_data" | "execute_result" | "update_display_data" | "clear_output" | "error";
  content: any;
}

/**
 * Fills `element`, the `.data` of the output, with the value of one type.
 *
 * What runs scripts or measures itself calls `attach` as soon as the element may stand in the page; for all others the caller
 * does it afterwards. To throw is to give way to the next type of the bundle.
 */
export type Renderer = (element: HTMLElement, bundle: MimeBundle, mime: string, context: DrawContext, attach: () => void) => void | Promise<void>;

/** A value that notebooks store in one string or in many. */
export function asText(value: unknown): string {
  return Array.isArray(value) ? value.join("") : typeof value === "string" ? value : "";
}

/** The metadata of a bundle that are for one type alone. */
export function about(bundle: MimeBundle, mime: string): Record<string, any> {
  const own: unknown = bundle.metadata[mime];
  return own && typeof own === "object" ? own : {};
}

/** Text as HTML; a quotation mark stays as it is, so this is not for attributes. */
export function escape(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** An element with classes and text. */
export function make<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, classes = "", text = ""): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  return element;
}

/** A `<pre>` that the keyboard can scroll. */
export function preformatted(html = ""): HTMLPreElement {
  const pre = make("pre");
  pre.tabIndex = 0;
  pre.innerHTML = html;
  return pre;
}

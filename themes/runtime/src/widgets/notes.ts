/** Sentences in the place of widgets that cannot be shown, or below those that have something to say. */

/** Why a widget is not shown, as a sentence for the reader. */
export class WidgetError extends Error {}

/** The kernel, or the stored state, has no such widget. */
export class UnknownWidgetError extends WidgetError {}

/** The sentence for whatever was thrown; details are for the console. */
export function sentenceOf(error: unknown): string {
  if (error instanceof WidgetError) return error.message;
  console.error(error);
  return "This widget cannot be shown.";
}

export function noteElement(text: string): HTMLElement {
  const note = document.createElement("p");
  note.className = "note widget-note";
  note.setAttribute("role", "status");
  note.textContent = text;
  return note;
}

/** Says `text` below `element`, instead of what was said there before; undefined takes that away. */
export function say(element: Element, text: string | undefined): void {
  const below = element.nextElementSibling;
  if (below?.classList.contains("widget-note")) below.remove();
  if (text !== undefined) element.after(noteElement(text));
}

/** What widgets need of the page around them. */
import type { Kernel } from "../live/kernel";
import type { Content } from "../live/protocol";

/** The part of a kernel that widgets talk to. */
export type KernelLike = Pick<Kernel, "sendComm" | "hook">;

/** Where outputs are drawn: of a cell, or inside an Output widget. */
export interface OutputAreaLike {
  receive(message: { type: string; content: Content }): void;
  clear(wait?: boolean): void;
}

export interface HostOptions {
  /** null: the widgets are drawn from stored state, and nothing listens to them. */
  kernel: KernelLike | null;
  /** A new area that draws into `element`, for an Output widget. */
  area(element: HTMLElement): OutputAreaLike;
  /** The area of the cell that `element` is in: what a callback of a widget prints goes there. */
  cellOf?(element: Element): OutputAreaLike | null;
}

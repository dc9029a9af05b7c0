/** A WebSocket that comes back: reopened with growing pauses until it is told, or finds out, that there is no use. */
import { ApiError } from "./api";
import { SUBPROTOCOL } from "./protocol";

/** Who uses a connection: gets each frame, and hears when it opened, was lost (a new attempt is planned), or is over, perhaps for the reader alone. */
export interface Listener {
  opened(): void;
  received(frame: ArrayBuffer): void;
  lost(): void;
  over(loggedOut: boolean): void;
}

/** The kernel was deleted or has ended: the shim's close code that says so. */
const ENDED = 4404;
/** The login of the reader has ended: another one of its close codes. */
const LOGGED_OUT = 4401;
const LONGEST_PAUSE_SECONDS = 15;
const MOST_TRIES = 40;
const HANDSHAKE_MS = 90_000;

export class Connection {
  private socket: WebSocket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private tries = 0;
  private asking = false;
  private closed = false;

  /** When the next attempt is made, in milliseconds since 1970; 0 while one is made, infinity when none is made unasked. */
  retryAt = 0;

  /** `exists` tells before each further attempt whether there is anything to connect to; it throws when nobody knows. */
  constructor(
    private readonly url: string,
    private readonly exists: () => Promise<boolean>,
    private readonly listener: Listener,
  ) {}

  open(): void {
    const socket = new WebSocket(this.url, [SUBPROTOCOL]);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    const late = setTimeout(() => socket.close(), HANDSHAKE_MS);
    const current = (): boolean => this.socket === socket;
    socket.onopen = () => {
      clearTimeout(late);
      if (current()) this.listener.opened();
    };
    socket.onmessage = ({ data }) => {
      if (current()) this.listener.received(data as ArrayBuffer);
    };
    socket.onclose = ({ code }) => {
      clearTimeout(late);
      if (!current()) return;
      this.socket = null;
      if (code === ENDED || code === LOGGED_OUT) this.end(code === LOGGED_OUT);
      else this.plan();
    };
  }

  /** Sends a frame; false when there is no connection that could take it. */
  send(frame: ArrayBuffer): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(frame);
    return true;
  }

  /** The connection works: after the next loss the pauses are short again. */
  proved(): void {
    this.tries = 0;
  }

  /** Tries again now rather than when it was planned. */
  retry(): void {
    if (!this.socket && !this.asking && !this.closed) void this.ask();
  }

  /** Drops the connection until `open` is called. */
  drop(): void {
    clearTimeout(this.timer);
    this.retryAt = 0;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  /** Drops it for good. */
  close(): void {
    this.closed = true;
    this.drop();
  }

  private end(loggedOut: boolean): void {
    this.close();
    this.listener.over(loggedOut);
  }

  private plan(): void {
    const pause = Math.min(2 ** this.tries, LONGEST_PAUSE_SECONDS) * 1000;
    this.tries += 1;
    const goesOn = this.tries <= MOST_TRIES;
    this.retryAt = goesOn ? Date.now() + pause : Infinity;
    clearTimeout(this.timer);
    if (goesOn) this.timer = setTimeout(() => this.retry(), pause);
    this.listener.lost();
  }

  private async ask(): Promise<void> {
    clearTimeout(this.timer);
    this.retryAt = 0;
    this.asking = true;
    this.listener.lost();
    let loggedOut = false;
    const found = await this.exists().catch((error: unknown) => {
      loggedOut = error instanceof ApiError && error.status === 401;
      return null;
    });
    this.asking = false;
    if (this.closed || this.socket) return;
    if (found === false || loggedOut) this.end(loggedOut);
    else if (found) this.open();
    else this.plan();
  }
}

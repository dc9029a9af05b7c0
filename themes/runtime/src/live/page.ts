/** The live cells of a page: starts the kernel, runs cells one after the other, and says in the bar how things are. */
import { type Api, ApiError, type PageAddress } from "./api";
import { type Action, Bar, type View } from "./bar";
import type { Cell } from "./cell";
import type { ExecuteReply } from "./kernel";
import { Kernel, LOGGED_OUT } from "./kernel";

/** A cell that is to run; those of one batch do not run when one before them failed. */
interface Job {
  cell: Cell;
  batch: object;
}

/** How far the page has come on its way to a kernel; with one, the kernel's own status counts. */
type Phase =
  | { name: "frozen" | "starting" | "live" }
  | { name: "queued"; words: string }
  | { name: "failed"; words: string; action: "again" | "reload" };

const TICK_MS = 1000;

export class LivePage {
  readonly bar = new Bar((action) => void this[action]());
  private phase: Phase = { name: "frozen" };
  private kernel: Kernel | null = null;
  private jobs: Job[] = [];
  private current: Job | null = null;
  private asking = false;
  private interrupted = false;
  private verdict = "";
  /** Another one when the reader stops or starts anew: whoever waited meanwhile finds out that nobody wants it any more. */
  private turn = {};
  private ticking: ReturnType<typeof setInterval> | undefined;

  /** `attach` connects what else uses a kernel, once for each. */
  constructor(
    private readonly api: Api,
    private readonly address: PageAddress,
    private readonly cells: readonly Cell[],
    private readonly attach: (kernel: Kernel) => void,
  ) {
    this.show();
  }

  /** Starts a kernel, waiting in line if need be, and runs all cells. */
  async start(): Promise<void> {
    const turn = this.newTurn();
    this.enter({ name: "starting" });
    while (turn === this.turn) {
      try {
        const id = await this.api.start(this.address);
        if (turn === this.turn) this.connect(id);
        else await this.api.end(id);
        return;
      } catch (error) {
        if (turn !== this.turn) return;
        if (!(error instanceof ApiError) || error.status !== 503) return this.enter(failure(error));
        const words = error.place ? `All kernels are busy; place ${error.place} in line` : error.message;
        this.enter({ name: "queued", words });
        await pause(error.retrySeconds);
      }
    }
  }

  /** Runs all cells, in the order of the notebook, up to the first that fails. */
  runAll(): void {
    this.enqueue(this.cells);
  }

  /** Runs one cell after what is running already. */
  run(cell: Cell): void {
    this.enqueue([cell]);
  }

  async interrupt(): Promise<void> {
    this.skip(this.jobs.splice(0));
    this.interrupted = true;
    await this.kernel?.interrupt().catch(() => {});
  }

  /** A kernel that knows nothing: this one restarted, or another if this one is dead. Then all cells run again. */
  async restart(): Promise<void> {
    const { kernel } = this;
    const turn = this.newTurn();
    for (const cell of this.cells) cell.reset();
    if (kernel && kernel.status !== "dead") {
      const restarted = kernel.restart();
      this.runAll();
      if (await restarted.then(() => true, () => false)) return;
      if (turn !== this.turn) return;
    }
    this.kernel = null;
    await this.start();
  }

  /** Ends the kernel and shows the page as it was stored. */
  async stop(): Promise<void> {
    const { kernel } = this;
    this.newTurn();
    this.kernel = null;
    for (const cell of this.cells) cell.disconnect();
    this.enter({ name: "frozen" });
    await kernel?.close();
  }

  cancel(): Promise<void> {
    return this.stop();
  }

  again(): Promise<void> {
    return this.start();
  }

  reload(): void {
    location.reload();
  }

  /** Reconnects at once, if the connection is lost. */
  retry(): void {
    this.kernel?.retry();
  }

  /** The page goes away for good: its kernel is of no use any more. */
  leave(): void {
    this.newTurn();
    void this.kernel?.close();
  }

  /** What was going on is no longer wanted. */
  private newTurn(): object {
    this.jobs = [];
    this.current = null;
    this.asking = false;
    this.verdict = "";
    return (this.turn = {});
  }

  private connect(id: string): void {
    const kernel = (this.kernel = new Kernel(this.api, id));
    kernel.addEventListener("status", () => {
      if (this.kernel !== kernel) return;
      if (kernel.status === "dead") this.skip(this.jobs.splice(0));
      this.show();
    });
    this.attach(kernel);
    for (const cell of this.cells) cell.connect(() => this.run(cell));
    this.enter({ name: "live" });
    this.runAll();
  }

  private enqueue(cells: readonly Cell[]): void {
    const { kernel } = this;
    if (!kernel || kernel.status === "dead") return;
    const batch = {};
    for (const cell of cells) {
      if (this.current?.cell === cell || this.jobs.some((job) => job.cell === cell)) continue;
      this.jobs.push({ cell, batch });
      cell.state = "pending";
    }
    if (!this.current) void this.work(kernel);
  }

  private async work(kernel: Kernel): Promise<void> {
    const { turn } = this;
    this.verdict = "";
    this.interrupted = false;
    for (let job = this.jobs.shift(); job; job = this.jobs.shift()) {
      const { cell } = (this.current = job);
      cell.begin();
      this.show();
      const reply = await kernel.execute(cell.index, {
        iopub: (message) => cell.receive(message),
        ...(cell.isVisible && { stdin: (prompt: string, password: boolean) => this.ask(cell, prompt, password) }),
      });
      if (turn !== this.turn) return;
      this.asking = false;
      cell.finish(reply);
      if (reply.status !== "ok") this.failed(job, reply);
    }
    this.current = null;
    this.show();
  }

  private failed({ cell, batch }: Job, reply: ExecuteReply): void {
    const after = this.jobs.filter((job) => job.batch === batch);
    this.jobs = this.jobs.filter((job) => job.batch !== batch);
    this.skip(after);
    const rest = after.length ? "; the cells after it were not run" : "";
    const name = cell.isVisible ? `Cell ${this.numberOf(cell)}` : "A hidden cell";
    const why = cell.isVisible ? "" : `: ${[reply.ename, reply.evalue].filter(Boolean).join(": ")}`;
    if (this.interrupted) this.verdict = "Interrupted";
    else this.verdict = reply.status === "error" ? `${name} failed${why}${rest}` : `${name} was cut off${rest}`;
  }

  private skip(jobs: readonly Job[]): void {
    for (const { cell } of jobs) if (cell.state === "pending") cell.state = "skipped";
  }

  private async ask(cell: Cell, prompt: string, password: boolean): Promise<string> {
    this.asking = true;
    this.show();
    const value = await cell.ask(prompt, password);
    this.asking = false;
    this.show();
    return value;
  }

  private numberOf(cell: Cell): number {
    return this.cells.indexOf(cell) + 1;
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    this.show();
  }

  private show(): void {
    this.bar.show(this.view());
    const counts = Number.isFinite(this.kernel?.retryAt) && this.kernel?.status === "reconnecting";
    if (counts) this.ticking ??= setInterval(() => this.show(), TICK_MS);
    else clearInterval(this.ticking), (this.ticking = undefined);
  }

  private view(): View {
    const { phase, kernel } = this;
    switch (phase.name) {
      case "frozen": return { mood: "frozen", words: "Stored results", actions: ["start"] };
      case "starting": return { mood: "working", words: "Starting a kernel", actions: ["cancel"] };
      case "queued": return { mood: "waiting", words: phase.words, actions: ["cancel"] };
      case "failed": return { mood: "trouble", words: phase.words, actions: [phase.action] };
      case "live": return this.liveView(kernel!);
    }
  }

  private liveView(kernel: Kernel): View {
    switch (kernel.status) {
      case "connecting": return { mood: "working", words: "Starting a kernel", actions: ["stop"] };
      case "restarting": return { mood: "working", words: "Restarting the kernel", actions: ["stop"] };
      case "dead": return { mood: "trouble", words: kernel.reason, actions: kernel.reason === LOGGED_OUT ? ["reload"] : ["restart", "stop"] };
      case "reconnecting": return lostView(kernel.retryAt);
    }
    if (this.asking) return { mood: "waiting", words: "A cell asks for your input", actions: ["interrupt", "restart", "stop"] };
    if (this.current) return this.runningView(this.current.cell);
    if (kernel.status === "busy") return { mood: "working", words: "Working", spoken: "Live", actions: ["interrupt", "restart", "stop"] };
    const actions: Action[] = ["runAll", "restart", "stop"];
    return this.verdict ? { mood: "trouble", words: this.verdict, actions } : { mood: "ready", words: "Live", actions };
  }

  private runningView(cell: Cell): View {
    const words = `Running cell ${this.numberOf(cell)} of ${this.cells.length}`;
    return { mood: "working", words, spoken: "Running", actions: ["interrupt", "restart", "stop"] };
  }
}

function lostView(retryAt: number): View {
  const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
  const next = Number.isFinite(retryAt) ? (retryAt ? `; trying again in ${seconds} s` : "; trying again") : "";
  return { mood: "trouble", words: `Connection lost${next}`, spoken: "Connection lost", actions: ["retry", "stop"] };
}

function failure(error: unknown): Phase {
  const words = error instanceof Error ? error.message : String(error);
  const reload = error instanceof ApiError && (error.status === 401 || error.status === 409);
  return { name: "failed", words, action: reload ? "reload" : "again" };
}

/** Waits, and as long as nobody looks at the page: only readers who are there hold a place in line. */
async function pause(seconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

// How a proxy's process ends: asked once it drains, asked twice it stops; a crash is in the log before it is over.
import type { LogSink } from "./log-sink.ts";
import type { Logger } from "./log.ts";

/**
 * @param exit  ends the process at once: the second SIGINT
 * @returns aborts when the process is asked to end
 */
export function stopOnSignals(sink: LogSink, exit: (code: number) => void): AbortSignal {
  const stop = new AbortController();
  process.once("SIGTERM", () => stop.abort());
  process.once("SIGINT", () => {
    stop.abort();
    process.once("SIGINT", () => {
      sink.flush();
      exit(130);
    });
  });
  return stop.signal;
}

/** @param program  for the message: `<program> crashed` */
export function logCrashes(program: string, log: Logger, sink: LogSink): void {
  // Node ends the process then; what is not written before is lost
  process.once("uncaughtExceptionMonitor", (error) => {
    log.error({ error }, `${program} crashed`);
    sink.flush();
  });
}

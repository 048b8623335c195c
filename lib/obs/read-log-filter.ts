// The log filter of a proxy, from RUST_LOG as Istio's ztunnel has it.
import type { ConfigReader } from "../base/config-reader.ts";
import { LogFilter, LogFilterError } from "./log-filter.ts";

export function readLogFilter(r: ConfigReader): LogFilter {
  try {
    return LogFilter.parse(r.text("RUST_LOG", "info"));
  } catch (error) {
    if (!(error instanceof LogFilterError)) throw error;
    r.problem(`RUST_LOG: ${error.message}`);
    return new LogFilter();
  }
}

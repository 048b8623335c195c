// Why rules could not be read, written or proved.

export type RulesErrorCode =
  /** An option the rules cannot be made of, e.g. an interface name. */
  | "BAD_OPTION"
  /** No packet filter on this machine can hold the rules; the message says what each one answered. */
  | "NO_BACKEND"
  /** A tool ran and refused. */
  | "COMMAND_FAILED"
  /** A tool did not finish in time and was killed. */
  | "TIMED_OUT"
  /** The rules were written and are not all there. */
  | "NOT_IN_PLACE";

export class RulesError extends Error {
  override readonly name = "RulesError";
  readonly code: RulesErrorCode;

  constructor(code: RulesErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

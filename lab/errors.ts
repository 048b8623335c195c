// What can go wrong while a lab is built or driven, by code.

export type LabErrorCode =
  /** The kernel or the user may not make namespaces; the message says what was tried. */
  | "NO_SANDBOX"
  /** A program the lab needs is not installed. */
  | "MISSING_PROGRAM"
  /** A command ended with an error or too late. */
  | "COMMAND"
  /** A CNI plugin refused; the message is the plugin's. */
  | "CNI"
  /** A process did not become ready, or ended, before its deadline. */
  | "NOT_READY"
  /** The kernel lacks what this link setting needs. */
  | "UNSUPPORTED"
  /** No node, pod, service or part of that name. */
  | "NOT_FOUND"
  /** The lab has no free address, or the name is taken. */
  | "CONFLICT"
  /** A request on the control socket was malformed or refused. */
  | "CONTROL";

export class LabError extends Error {
  override readonly name = "LabError";
  readonly code: LabErrorCode;

  constructor(code: LabErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

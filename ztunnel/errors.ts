// The errors of the node proxy's control side; the data plane has its own in proxy/.

export type ZtunnelErrorCode =
  /** The node agent speaks another protocol than ours: the process must end. */
  | "ZDS_PROTOCOL"
  /** A data-plane worker ended or reported a bug. */
  | "WORKER";

export class ZtunnelError extends Error {
  override readonly name = "ZtunnelError";
  readonly code: ZtunnelErrorCode;

  constructor(code: ZtunnelErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

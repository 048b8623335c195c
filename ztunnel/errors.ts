// The errors of the node proxy's control side; the data plane has its own in proxy/.

export type ZtunnelErrorCode =
  /** The environment or a configuration file is wrong; the message lists every mistake. */
  | "CONFIG"
  /** The node agent speaks another protocol than ours: the process must end. */
  | "ZDS_PROTOCOL"
  /** A data-plane worker ended or reported a bug. */
  | "WORKER"
  /** The signer's answer cannot be used. */
  | "CERTIFICATE";

export class ZtunnelError extends Error {
  override readonly name = "ZtunnelError";
  readonly code: ZtunnelErrorCode;

  constructor(code: ZtunnelErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

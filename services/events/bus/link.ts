/**
 * One connection to a NATS server, as far as the bus needs it.
 *
 * A link lives once: when the connection breaks it is closed for good, and whoever wants to go on dials a new one. Nothing is ever
 * sent again behind the caller's back, since that would change the order of events.
 */
export interface Link {
  /** Largest message that the server takes, headers included. */
  readonly messageBytesMax: number;
  /** Resolves when the link is closed, with the reason if there is one. Never rejects. */
  readonly closed: Promise<Error | undefined>;
  /**
   * Has a function called when the link is closed; at once if it is closed already. For waits that are shorter than the link, which
   * would pile up on {@link closed}.
   *
   * @returns Takes the function off again.
   */
  onClose(listener: () => void): () => void;
  /**
   * Sends a message that asks for one reply. Messages arrive in the order of these calls.
   *
   * @param onReply - Called at most once. It is not called when the link closes first, nor after {@link forget}.
   */
  ask(message: Question, onReply: (reply: Reply) => void): Ticket;
  /** Sends a message that asks for no reply, in the order of all others. */
  tell(message: Question): void;
  /** Waits no longer for a reply. */
  forget(ticket: Ticket): void;
  /** Ends the connection; no reply comes any more. */
  close(): Promise<void>;
}

export interface Question {
  readonly subject: string;
  /** Lines as they are sent, `name: value` and CRLF each; empty for a message without headers. */
  readonly headers: string;
  readonly body: Uint8Array;
}

/** Stands for a question that has been asked. */
export type Ticket = number & { readonly ticket: never };

export interface Reply {
  /** Status of a reply that carries no message, such as 404 and 503; 0 for all others. */
  readonly status: number;
  /** First value of a header, by its exact name. */
  header(name: string): string | undefined;
  readonly body: Uint8Array;
}

/** Opens a link. Rejects when there is no connection within the dialler's own bound. */
export type Dial = () => Promise<Link>;

import { once } from "node:events";
import net from "node:net";

/** Somebody who speaks to a NATS server as its documentation says, without our code. */
export class NatsUser implements Disposable {
  readonly #socket: net.Socket;
  /** Everything that the server has sent. */
  received = "";

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8").on("data", (text: string) => {
      this.received += text;
    });
    socket.on("error", () => undefined);
  }

  /** @param url - `nats://user:password@host:port`. */
  static async connect(url: string): Promise<NatsUser> {
    const { hostname, port, username, password } = new URL(url);
    const socket = net.connect(Number(port), hostname);
    await once(socket, "connect");
    const user = new NatsUser(socket);
    const options = { verbose: false, pedantic: false, headers: true, user: username, pass: password };
    user.send(`CONNECT ${JSON.stringify(options)}`);
    return user;
  }

  /** Sends lines of the protocol. */
  send(...lines: readonly string[]): void {
    this.#socket.write(lines.map((line) => `${line}\r\n`).join(""));
  }

  /** Waits until the server has sent something that matches. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.received);
      if (match !== null) {
        return match;
      }
      if (this.#socket.destroyed) {
        throw new Error(`the server closed the connection after ${JSON.stringify(this.received)}`);
      }
      await Promise.race([once(this.#socket, "data"), once(this.#socket, "close")]);
    }
  }

  /** Waits until the server has done what was sent before. */
  async settled(): Promise<void> {
    this.received = this.received.replaceAll("PONG\r\n", "");
    this.send("PING");
    await this.until(/PONG\r\n/);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

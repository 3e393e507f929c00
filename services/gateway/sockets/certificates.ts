import { readFileSync, statSync } from "node:fs";
import { createSecureContext, type SecureContextOptions } from "node:tls";

/** The files that TLS needs. */
export interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
  /** Those who sign the clients' certificates; "" when clients need none. */
  readonly authorities: string;
}

/** Time between two looks at the files. */
const lookMsMin = 1_000;

/**
 * Certificates that are read again when their files have changed, so that they can be renewed under a running daemon. As long as the new ones
 * can't be used, such as while only one of two files has been replaced, the old ones are.
 */
export class Certificates {
  readonly #files: CertificateFiles;
  readonly #onWarning: (error: unknown) => void;
  /** What the files were when they were read last, or tried to be. */
  #seen: string;
  #lookedAtMs = performance.now();
  /** What a server of TLS takes. */
  options: SecureContextOptions;

  /**
   * Reads the files.
   *
   * @param onWarning - Told when changed files can't be used.
   * @throws What keeps them from being read or used.
   */
  constructor(files: CertificateFiles, onWarning: (error: unknown) => void) {
    this.#files = files;
    this.#onWarning = onWarning;
    this.#seen = this.#look();
    this.options = this.#read();
  }

  /**
   * Reads the files again if they have changed. They are looked at once a second at most.
   *
   * @returns Whether there is something new.
   */
  refresh(): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#lookedAtMs < lookMsMin) {
      return false;
    }
    this.#lookedAtMs = nowMs;
    try {
      // Looked at before they are read, so that what changes meanwhile is seen the next time.
      const seen = this.#look();
      if (seen === this.#seen) {
        return false;
      }
      this.#seen = seen;
      this.options = this.#read();
      return true;
    } catch (error) {
      this.#onWarning(error);
      return false;
    }
  }

  #look(): string {
    return this.#paths()
      .map((path) => {
        const { ino, size, mtimeMs } = statSync(path);
        return `${ino} ${size} ${mtimeMs}`;
      })
      .join(" ");
  }

  #read(): SecureContextOptions {
    const { certificate, key, authorities } = this.#files;
    const options = {
      cert: readFileSync(certificate),
      key: readFileSync(key),
      ...(authorities === "" ? {} : { ca: readFileSync(authorities) }),
    };
    createSecureContext(options);
    return options;
  }

  #paths(): string[] {
    const { certificate, key, authorities } = this.#files;
    return [certificate, key, ...(authorities === "" ? [] : [authorities])];
  }
}

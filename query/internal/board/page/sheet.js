// A sheet at the side of the page, of which only one is open.

export class Sheet {
  #dialog;

  // closed is called when the reader has closed it.
  constructor(dialog, closed) {
    this.#dialog = dialog;
    dialog.querySelector('.close').addEventListener('click', () => dialog.close());
    dialog.addEventListener('click', (event) => {
      if (event.target === dialog) dialog.close(); // outside of it
    });
    dialog.addEventListener('close', closed);
  }

  get isOpen() {
    return this.#dialog.open;
  }

  open() {
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.scrollTop = 0;
  }

  close() {
    this.#dialog.close();
  }
}

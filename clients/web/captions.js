// The captions of both sides. What the agent has not said yet is pale, what an interruption left unsaid is struck out.
// Screen readers are told each line once, when it is final: a live text would be read again and again.

export class Captions {
  #list;
  #live;
  #rows = new Map();
  #empty;

  constructor({ list, live, empty }) {
    this.#list = list;
    this.#live = live;
    this.#empty = empty;
  }

  show(entry) {
    const row = this.#rows.get(entry.id) ?? this.#add(entry);
    const { text, heard, cut, final } = entry;
    const said = entry.role === 'agent' ? text.slice(0, heard) : text;
    const rest = entry.role === 'agent' ? text.slice(heard) : '';
    row.said.textContent = said;
    row.rest.textContent = '';
    if (rest.trim()) {
      const part = document.createElement(cut ? 'del' : 'span');
      part.textContent = rest;
      row.rest.append(part);
    }
    row.element.classList.toggle('final', final);
    row.element.classList.toggle('cut', cut);
    row.note.textContent = cut ? 'interrupted' : '';
    if (final && !row.told) this.#tell(row, entry, said, cut);
    this.#follow();
  }

  remove(entry) {
    this.#rows.get(entry.id)?.element.remove();
    this.#rows.delete(entry.id);
    this.#empty.hidden = this.#rows.size > 0;
  }

  clear() {
    for (const { element } of this.#rows.values()) element.remove();
    this.#rows.clear();
    this.#live.textContent = '';
    this.#empty.hidden = false;
  }

  #add(entry) {
    const element = document.createElement('li');
    element.className = `line ${entry.role}`;
    element.dataset.item = entry.id;
    const who = document.createElement('span');
    who.className = 'who';
    who.textContent = entry.role === 'user' ? 'You' : 'Agent';
    const words = document.createElement('p');
    const said = document.createElement('span');
    const rest = document.createElement('span');
    rest.className = 'rest';
    words.append(said, rest);
    const note = document.createElement('span');
    note.className = 'note';
    element.append(who, words, note);
    this.#list.append(element);
    this.#empty.hidden = true;
    const row = { element, said, rest, note, told: false };
    this.#rows.set(entry.id, row);
    return row;
  }

  #tell(row, entry, said, cut) {
    row.told = true;
    const line = document.createElement('p');
    line.textContent = `${entry.role === 'user' ? 'You' : 'Agent'}: ${said}${cut ? ' (interrupted)' : ''}`;
    this.#live.append(line);
    while (this.#live.childElementCount > 6) this.#live.firstElementChild.remove();
  }

  /** Stays at the newest line unless the reader has scrolled away. */
  #follow() {
    const box = this.#list.parentElement;
    if (box.scrollHeight - box.scrollTop - box.clientHeight < 160) box.scrollTop = box.scrollHeight;
  }
}

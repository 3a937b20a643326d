// The reader's choice of light or dark, before the page is drawn.
try {
  const chosen = localStorage.getItem('accrue theme');
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
} catch {
  // Nothing may be stored: it is as the system says.
}

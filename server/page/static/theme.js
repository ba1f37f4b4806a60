// The colours are chosen before anything is drawn, so that nothing flashes. This is the only script that is not a module.
try {
	const theme = localStorage.getItem("darkroom.theme");
	if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch { /* no storage: as the system has it */ }

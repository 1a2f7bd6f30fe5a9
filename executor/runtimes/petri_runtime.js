// petri's runtime for Node (docs/runtimes.md): started with -e in a waiting sandbox, then becomes the program of one job, as if
// `node …` had been started just then. What it cannot do so it declines ("N").
(() => {
	const fs = require("fs"), path = require("path"), vm = require("vm"), Module = require("module");

	const writeFile = (file) => {
		fs.rmSync(file.path, { force: true });
		fs.mkdirSync(path.dirname(file.path), { recursive: true, mode: 0o755 });
		fs.writeFileSync(file.path, Buffer.from(file.data, "base64"), { flag: "wx", mode: 0o600 });
		fs.chmodSync(file.path, file.mode & 0o777);
	};

	const runScript = (script, rest) => {
		const main = path.resolve(script);
		if (!fs.statSync(main).isFile())
			throw new Error("not a file");
		for (const name of ["require", "module", "exports", "__filename", "__dirname"])
			delete globalThis[name];
		delete process._eval;
		process.execArgv = [];
		process.argv = [process.execPath, main, ...rest];
		return () => Module.runMain(main);
	};

	const runCode = (code, rest) => {
		process._eval = code;
		process.execArgv = ["-e", code];
		process.argv = [process.execPath, ...rest];
		globalThis.module.paths = Module._nodeModulePaths(process.cwd());
		const importModuleDynamically = vm.constants && vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
		return () => vm.runInThisContext(code, { filename: "[eval]", displayErrors: true, importModuleDynamically });
	};

	const take = () => {
		const job = JSON.parse(fs.readFileSync(4));
		fs.closeSync(4);
		if (job.argv[0].includes("/") && fs.realpathSync(job.argv[0]) !== process.execPath)
			throw new Error("another interpreter");
		job.files.forEach(writeFile);
		process.chdir(job.cwd);
		for (const key of Object.keys(process.env))
			delete process.env[key];
		Object.assign(process.env, job.env);
		const [, first, ...rest] = job.argv;
		return first === "-e" ? runCode(rest[0], rest.slice(1)) : runScript(first, rest);
	};

	fs.writeSync(3, "R");
	let run;
	try {
		run = take();
	} catch {
		fs.writeSync(3, "N");
		process.reallyExit(0);
	}
	fs.closeSync(3);
	run();
})();

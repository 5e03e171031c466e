"a script whose name tells its content";

{
  # CMakeLists.txt is the build description; this only lets node-gyp (and tools that drive it) call it.
  "targets": [
    {
      "target_name": "swiftkv",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/Release/swiftkv.node"],
          "action": ["npm", "run", "build:native"]
        }
      ]
    }
  ]
}

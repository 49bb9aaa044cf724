import os
from seen import say

say("cwd", (os.getcwd(), os.environ.get("PWD"), os.path.abspath("x"), os.path.realpath(__file__)))
os.mkdir("of-rank-" + os.environ["RANK"])
os.chdir("of-rank-" + os.environ["RANK"])
say("changed", os.getcwd().rsplit("/", 1)[1] == "of-rank-" + os.environ["RANK"])
say("file", os.path.abspath(__file__) == __file__)
